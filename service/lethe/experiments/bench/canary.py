"""Plants a canary, an image or a vector, in a stream and searches for it wherever it might remain.

A second one is sent to /predict, in every accepted encoding and in some that are rejected.
"""

import base64
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import numpy as np
import torch
from PIL import Image

from lethe.errors import LetheError
from lethe.experiments.bench.memory_search import Needles, find_in_files, find_in_memory, reader_processes
from lethe.experiments.processes import Children, environment, free_port
from lethe.experiments.topics import Outgoing, open_publisher, temporary_topic
from lethe.privacy.policy import load_policy
from lethe.settings import Settings
from lethe.stream.consumer import KafkaSource
from lethe.stream.settings import StreamSettings
from lethe.web.predict_body import JSON
from lethe.wire import PNG, Layout, Pixels, Sample, encode
from lethe_producers.publisher import short_lived
from lethe_producers.records import Record

__all__ = ["Canary", "CanaryResult", "run_canary"]

LOCATION, SPREAD = 1.0, 2.0
"""Of vectors: the scale of the learner, so that the numbers that it computes with are known."""
TOO_LARGE: Final = 1_600_000
"""Bytes of a body that /predict rejects for its size."""
BATCH: Final = 64
RETENTION_SECONDS: Final = 3600.0
ANSWER_SECONDS: Final = 120.0
READER: Final = "canary"
POLL_SECONDS: Final = 0.2


@dataclass(frozen=True)
class Canary:
    """Options of the experiment."""

    folder: Path
    """State, logs and report of the service."""
    broker: str | None = None
    """HOST:PORT of a Kafka cluster; None starts the embedded broker."""
    broker_files: Path | None = None
    """The cluster's data folder, if it is on this machine."""
    quiet: float = 10.0
    """Seconds without records after the canary was learned."""
    patience: float = 60.0
    """Seconds after which a canary in memory or in the broker's files counts as remaining."""
    rate: float = 200.0
    """Records per second after the quiet period."""
    policy: str = "clinic"
    learner: str = "finetune"
    features: int | None = None
    """Numbers of a canary that is a vector; None for an image."""
    before: int = 10
    """Batches before the canary."""
    after: int = 30
    """Batches after the canary: more than fit in one log segment of the topic."""

    @property
    def layout(self) -> Layout:
        """The layout of the stream."""
        return Layout() if self.features is None else Layout(features=self.features)


@dataclass
class CanaryResult:
    """Where the canary was found, and until when, in seconds; None if it was never found."""

    memory: dict[str, float | None] = field(default_factory=dict)
    """By process: time from learning the canary until it was last found."""
    first_look: float = 0.0
    """Time from learning the canary until both processes had been searched once."""
    gone_from_memory: bool = False
    """Whether neither process contained it when the search ended."""
    forms: list[str] = field(default_factory=list)
    """Encodings found in memory, by process: from the stream or from /predict."""
    bounded: bool = True
    """Whether the policy limits residency, so that memory counts."""
    files: list[str] = field(default_factory=list)
    """Files of the service that contained it at the end."""
    dead_letters: int = 0
    """Dead letters that contained it."""
    served: int = 0
    """Records with it that the broker still served."""
    seen_on_disk: bool = False
    """Whether it was found in the broker's files before the purge, which proves that the search works."""
    on_disk: float | None = None
    """Time from the purge, after which no client can read it, until it was last found there."""
    gone_from_disk: bool = True

    @property
    def passed(self) -> bool:
        """Whether it is not found anywhere."""
        nowhere = not (self.files or self.dead_letters or self.served)
        return nowhere and self.gone_from_disk and (self.gone_from_memory or not self.bounded)


def run_canary(canary: Canary, status: Callable[[str], None]) -> CanaryResult:
    """Publish the canary, let the service learn and purge it, and return where it was found.

    ``status`` is called with each step. Raises LetheError if a process cannot start or ends with an error.
    """
    layout = canary.layout
    needles, records, requests = _planted(layout) if layout.features is None else _planted_vectors(layout)
    found = CanaryResult(bounded=load_policy(canary.policy).residency_seconds is not None)
    configs = short_lived(RETENTION_SECONDS)
    with temporary_topic(canary.broker, "canary", readers=[READER], configs=configs) as stream:
        with Children() as children, _publishing(stream) as publish:
            settings = _settings(canary, stream)
            log = canary.folder / "service.log"
            service = children.start("service", "lethe", ["run"], log, environment(settings))
            status("learning the records before the canary")
            publish(_noise(layout, canary.before * BATCH, seed=1))
            _learned(settings, canary.before * BATCH, children)
            status("searching memory, at first without new records")
            publish(records)
            _learned(settings, (canary.before + 1) * BATCH, children)
            _ask(settings, requests)
            _watch_memory(canary, service.pid, needles, publish, found)
            if canary.broker_files is not None:
                found.seen_on_disk = bool(find_in_files(canary.broker_files, needles))
            status("learning the rest of the stream; purging")
            publish(_noise(layout, canary.after * BATCH, seed=4))
            if canary.broker_files is not None:
                _watch_disk(canary, stream, canary.broker_files, needles, found)
            _learned(settings, (canary.before + 1 + canary.after) * BATCH, children)
            service.terminate()
            service.wait(ANSWER_SECONDS)
            children.check()
        status("searching the remaining records and files")
        found.served = _served(stream, stream.topic, needles)
        found.dead_letters = _served(stream, stream.dead_letters, needles)
        found.files = [str(path) for path in find_in_files(canary.folder, needles)]
    return found


def _settings(canary: Canary, stream: StreamSettings) -> Settings:
    scale = {} if canary.features is None else {"location": LOCATION, "spread": SPREAD}
    return Settings.read(
        {
            "stream": stream.model_dump(exclude_unset=True) | {"group": f"{stream.topic}-{READER}"},
            "sample": canary.layout.model_dump(exclude_unset=True),
            "batch": {"size": BATCH},
            "learner": {"name": canary.learner, "threads": 1, "options": scale},
            "checkpoint": {"folder": canary.folder / "state", "every_samples": BATCH},
            "privacy": {"policy": canary.policy},
            "serve": {"port": free_port()},
            "run": {"report": canary.folder / "report"},
        }
    )


@contextmanager
def _publishing(stream: StreamSettings) -> Iterator[Callable[[list[Outgoing]], None]]:
    with open_publisher(stream) as publisher:

        def publish(records: list[Outgoing]) -> None:
            for value, headers in records:
                publisher.send(Record(0, b"", value, headers), 0)
            publisher.flush()

        yield publish


def _learned(settings: Settings, samples: int, children: Children) -> None:
    """Wait until ``samples`` samples have been learned and their slots overwritten."""
    deadline = time.monotonic() + ANSWER_SECONDS
    url = f"http://127.0.0.1:{settings.serve.port}/state"
    while time.monotonic() < deadline:
        children.check()
        try:
            if httpx.get(url, timeout=5).json()["samples"]["discarded"] >= samples:
                return
        except httpx.TransportError:
            pass  # still starting
        time.sleep(POLL_SECONDS)
    raise LetheError(f"the service has not learned {samples} samples in {ANSWER_SECONDS:g} s")


def _watch_memory(
    canary: Canary,
    service: int,
    needles: Needles,
    publish: Callable[[list[Outgoing]], None],
    found: CanaryResult,
) -> None:
    """Search both processes until neither contains the canary; after the quiet period resume the stream."""
    (feeder,) = reader_processes(service)
    began = time.monotonic()
    found.memory = {"service": None, "feeder": None}
    while not found.gone_from_memory and time.monotonic() - began < canary.patience:
        seen = False
        for name, pid in (("feeder", feeder), ("service", service)):
            if forms := find_in_memory(pid, needles):
                found.memory[name], seen = time.monotonic() - began, True
                found.forms = sorted({*found.forms, *(f"{name}: {form}" for form in forms)})
        elapsed = time.monotonic() - began
        found.first_look = found.first_look or elapsed
        found.gone_from_memory = not seen and elapsed > canary.quiet
        if elapsed > canary.quiet and not found.gone_from_memory:
            publish(_noise(canary.layout, BATCH, seed=int(1000 * elapsed)))
            time.sleep(BATCH / canary.rate)


def _watch_disk(
    canary: Canary, stream: StreamSettings, folder: Path, needles: Needles, found: CanaryResult
) -> None:
    """Wait for the purge, then search the broker's files until none contains the canary."""
    began, purged = time.monotonic(), None
    found.gone_from_disk = False
    with closing(KafkaSource(stream)) as source:
        while not found.gone_from_disk and time.monotonic() - began < canary.patience:
            now = time.monotonic()
            if purged is None and source.starts()[0] >= (canary.before + 1) * BATCH:
                purged = now
            there = bool(find_in_files(folder, needles))
            if purged is not None:
                found.on_disk = now - purged if there else found.on_disk
                found.gone_from_disk = not there
            time.sleep(POLL_SECONDS)


def _served(stream: StreamSettings, topic: str, needles: Needles) -> int:
    """Return how many records of ``topic`` contain the canary."""
    records = 0
    with closing(KafkaSource(stream.model_copy(update={"topic": topic}))) as source:
        ends = source.ends()
        reached = dict(source.seek({}))
        while any(reached[p] < end for p, end in ends.items()):
            for record in source.poll(1.0, 500, ()):
                reached[record.partition] = record.offset + 1
                contents = [record.value, *(value for _, value in record.headers)]
                records += any(needles.within(content) for content in contents if content)
    return records


@dataclass(frozen=True, slots=True)
class _Request:
    """A request to /predict and its expected status."""

    body: bytes
    headers: dict[str, str]
    status: int


def _planted(layout: Layout) -> tuple[Needles, list[Outgoing], list[_Request]]:
    """Return the needles, a batch with the canary, and requests to /predict with a second image.

    Both contain the image raw, as PNG and malformed; the requests also in Base64.
    """
    rng = np.random.default_rng()  # new images every time: old ones could be found
    streamed, asked = rng.integers(0, 256, (2, *layout.shape), np.uint8)
    (raw, headers), picture = encode(Sample(streamed, 3)), _png(streamed)
    as_png = [("content-type", PNG.encode()), ("label", b"3")]
    malformed = [(name, b"1,1,1" if name == "shape" else value) for name, value in headers]
    # at the end: later samples would overwrite it
    batch: list[Outgoing] = [
        *_noise(layout, BATCH - 2, seed=2),
        (raw, malformed),
        (raw, headers),
        (picture, as_png),
    ]
    text = base64.b64encode(_png(asked))
    as_raw = {name: value.decode() for name, value in headers}
    requests = [
        _Request(asked.tobytes(), as_raw, 200),
        _Request(asked.tobytes() * 3, as_raw | {"shape": "3,1,28,28"}, 200),
        _Request(_png(asked), {"content-type": PNG}, 200),
        _Request(b'{"images": ["%s"]}' % text, {"content-type": JSON}, 200),
        _Request(b'{"images": ["%s", "?"]}' % text, {"content-type": JSON}, 422),
        _Request(asked.tobytes(), as_raw | {"shape": "1,1,1"}, 422),
        _Request(_png(asked) + b"more", {"content-type": PNG}, 422),
        _Request(asked.tobytes() * 2000, as_raw | {"shape": "2000,1,28,28"}, 413),
    ]
    forms = {"streamed, raw": raw, "streamed, PNG": picture, "asked, raw": asked.tobytes()}
    forms |= {"asked, PNG": _png(asked), "asked, Base64": text}
    for name, pixels in (("streamed", streamed), ("asked", asked)):
        forms |= {f"{name}, {form}": content for form, content in _floats(pixels).items()}
    return Needles.of(**forms), batch, requests


def _planted_vectors(layout: Layout) -> tuple[Needles, list[Outgoing], list[_Request]]:
    """Return the same for vectors: a batch with the canary, and requests with a second vector."""
    rng = np.random.default_rng()
    streamed, asked = rng.normal(LOCATION, SPREAD, (2, *layout.shape)).astype(np.float32)
    raw, headers = encode(Sample(streamed, 3))
    malformed = [(name, b"1" if name == "shape" else value) for name, value in headers]
    batch: list[Outgoing] = [*_noise(layout, BATCH - 1, seed=2), (raw, malformed), (raw, headers)]
    body, as_raw = asked.tobytes(), {name: value.decode() for name, value in headers}
    copies = -(-TOO_LARGE // layout.nbytes)
    text = json.dumps(asked.tolist())
    as_json = {"content-type": JSON}
    requests = [
        _Request(body, as_raw, 200),
        _Request(body * 3, as_raw | {"shape": f"3,{layout.size}"}, 200),
        _Request(f'{{"vectors": [{text}]}}'.encode(), as_json, 200),
        _Request(f'{{"vectors": [{text}, [1]]}}'.encode(), as_json, 422),
        _Request(body, as_raw | {"shape": "1"}, 422),
        _Request(body * copies, as_raw | {"shape": f"{copies},{layout.size}"}, 413),
    ]
    forms = {"streamed, raw": raw, "asked, raw": body, "asked, JSON": text.encode()}
    for name, vector in (("streamed", streamed), ("asked", asked)):
        standardised = (vector.astype(np.float64) - LOCATION) / SPREAD
        forms |= {
            f"{name}, doubles": vector.astype(np.float64).tobytes(),
            f"{name}, standardised": standardised.astype(np.float32).tobytes(),
            f"{name}, standardised doubles": standardised.tobytes(),
        }
    return Needles.of(**forms), batch, requests


def _png(pixels: Pixels) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(pixels[0]).save(file, "PNG")
        return file.getvalue()


def _floats(pixels: Pixels) -> dict[str, bytes]:
    """Return the image as learners use it: float32, unscaled, from 0 to 1, and from -1 to 1."""
    x_CHW = torch.from_numpy(pixels).to(torch.float32)
    return {
        "floats": x_CHW.numpy().tobytes(),
        "floats to 1": (x_CHW / 255).numpy().tobytes(),
        "floats from -1": x_CHW.mul(2 / 255).sub(1).numpy().tobytes(),
    }


def _ask(settings: Settings, requests: Sequence[_Request]) -> None:
    """Send each request several times, on new connections and on a persistent one."""
    url = f"http://127.0.0.1:{settings.serve.port}/predict"
    with httpx.Client(timeout=ANSWER_SECONDS) as persistent:
        for _ in range(3):
            for post in (httpx.post, persistent.post):
                for request in requests:
                    response = post(url, content=request.body, headers=request.headers)
                    if response.status_code != request.status:
                        raise LetheError(f"/predict answered {response.status_code}: {response.text}")


def _noise(layout: Layout, count: int, seed: int) -> list[Outgoing]:
    rng = np.random.default_rng(seed)
    if layout.features is None:
        x_NCHW: Pixels = rng.integers(0, 256, (count, *layout.shape), np.uint8)
    else:
        x_NCHW = rng.normal(LOCATION, SPREAD, (count, *layout.shape)).astype(np.float32)
    return [
        encode(Sample(x, int(label))) for x, label in zip(x_NCHW, rng.integers(0, 10, count), strict=True)
    ]
