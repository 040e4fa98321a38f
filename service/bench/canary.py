"""A canary: an image that is planted in a stream, and then looked for wherever it might have stayed."""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import numpy as np
from PIL import Image

from producers.broker import Broker
from producers.publisher import Publisher, short_lived
from producers.records import Record
from service.bench.search import Needles, feeders_of, found_in_files, found_in_memory
from service.demo.processes import Children
from service.demo.stage import environment, free_port, fresh_topic
from service.errors import LetheError
from service.settings import Settings
from service.stream.broker import KafkaSource
from service.stream.embedded import API_VERSION
from service.stream.settings import StreamSettings
from service.wire import PNG, Layout, Sample, encode

__all__ = ["Canary", "Sighting", "run_canary"]

LAYOUT: Final = Layout()
BATCH: Final = 64
RETENTION_SECONDS: Final = 3600.0
ANSWER_SECONDS: Final = 120.0
READER: Final = "canary"
POLL_SECONDS: Final = 0.2

Outgoing = list[tuple[bytes | None, list[tuple[str, bytes]]]]
"""Values and headers of records."""


@dataclass(frozen=True)
class Canary:
    """Where to plant it, and how long to look for it in memory."""

    folder: Path
    """State, logs and report of the service: all that it leaves behind."""
    broker: str | None = None
    """HOST:PORT of a Kafka cluster; None starts the embedded broker."""
    broker_files: Path | None = None
    """Where that cluster keeps its data, if that is on this machine."""
    quiet: float = 10.0
    """Seconds without a record, after the canary has been learned."""
    patience: float = 60.0
    """Seconds after which a canary that is still in memory, or in the broker's files, counts as staying."""
    rate: float = 200.0
    """Records a second once it is not quiet any more."""
    policy: str = "clinic"
    learner: str = "finetune"
    before: int = 10
    """Batches before the canary's."""
    after: int = 30
    """Batches after all: more than a segment of the topic holds."""


@dataclass
class Sighting:
    """Where the canary was found, and until when; seconds, None where it was never found."""

    memory: dict[str, float | None] = field(default_factory=dict)
    """By process: how long after it had been learned it was found for the last time."""
    first_look: float = 0.0
    """How long after it had been learned both processes had been searched for the first time."""
    gone_from_memory: bool = False
    files: list[str] = field(default_factory=list)
    """Files of the service that held it when all was done."""
    dead_letters: int = 0
    """Dead letters that held it."""
    served: int = 0
    """Records of it that the broker still served."""
    seen_on_disk: bool = False
    """Whether it was in the broker's files before the purge: a search must be able to find it."""
    on_disk: float | None = None
    """How long after the purge, from when on nobody could read it, it was there for the last time."""
    gone_from_disk: bool = True

    @property
    def passed(self) -> bool:
        """It is nowhere any more."""
        return not (self.files or self.dead_letters or self.served) and self.gone_from_disk


def run_canary(canary: Canary, tell: Callable[[str], None]) -> Sighting:
    """Plant a canary, have it learned and purged, and return where it was seen.

    Raises LetheError when a part cannot start or ends with an error.
    """
    needles, records = _planted()
    found = Sighting()
    configs = short_lived(RETENTION_SECONDS)
    with fresh_topic(canary.broker, "canary", readers=[READER], configs=configs) as stream:
        with Children() as children, _publisher(canary, stream) as publish:
            settings = _settings(canary, stream)
            log = canary.folder / "service.log"
            service = children.start("service", "service.cli", ["run"], log, environment(settings))
            tell("learning what comes before the canary")
            publish(_noise(canary.before * BATCH, seed=1))
            _learned(settings, canary.before * BATCH, children)
            tell("looking for the canary in memory, first while it is quiet")
            publish(records)
            _learned(settings, (canary.before + 1) * BATCH, children)
            _watch_memory(canary, service.pid, needles, publish, found)
            if canary.broker_files is not None:
                found.seen_on_disk = bool(found_in_files(canary.broker_files, needles))
            tell("the rest of the stream, and the purge")
            publish(_noise(canary.after * BATCH, seed=4))
            if canary.broker_files is not None:
                _watch_disk(canary, stream, canary.broker_files, needles, found)
            _learned(settings, (canary.before + 1 + canary.after) * BATCH, children)
            service.terminate()
            service.wait(ANSWER_SECONDS)
            children.check()
        tell("looking through what is left")
        found.served = _served(stream, stream.topic, needles)
        found.dead_letters = _served(stream, stream.dead_letters, needles)
        found.files = [str(path) for path in found_in_files(canary.folder, needles)]
    return found


def _settings(canary: Canary, stream: StreamSettings) -> Settings:
    return Settings.read(
        {
            "stream": stream.model_dump(exclude_unset=True) | {"group": f"{stream.topic}-{READER}"},
            "batch": {"size": BATCH},
            "learner": {"name": canary.learner, "threads": 1},
            "checkpoint": {"folder": canary.folder / "state", "every_samples": BATCH},
            "privacy": {"policy": canary.policy},
            "serve": {"port": free_port()},
            "run": {"report": canary.folder / "report"},
        }
    )


@contextmanager
def _publisher(canary: Canary, stream: StreamSettings) -> Iterator[Callable[[Outgoing], None]]:
    broker = Broker(stream.bootstrap_servers, API_VERSION if canary.broker is None else None)
    with Publisher(broker, stream.topic, 1) as publisher:

        def publish(records: Outgoing) -> None:
            for value, headers in records:
                publisher.send(Record(0, b"", value, headers), 0)
            publisher.flush()

        yield publish


def _learned(settings: Settings, samples: int, children: Children) -> None:
    """Wait until so many samples have been learned, and their slots overwritten."""
    deadline = time.monotonic() + ANSWER_SECONDS
    url = f"http://127.0.0.1:{settings.serve.port}/state"
    while time.monotonic() < deadline:
        children.check()
        try:
            if httpx.get(url, timeout=5).json()["samples"]["discarded"] >= samples:
                return
        except httpx.TransportError:
            pass  # it is starting
        time.sleep(POLL_SECONDS)
    raise LetheError(f"the service has not learned {samples} samples in {ANSWER_SECONDS:g} s")


def _watch_memory(
    canary: Canary, service: int, needles: Needles, publish: Callable[[Outgoing], None], found: Sighting
) -> None:
    """Search both processes until the canary is in neither, after a while with the stream going on."""
    (feeder,) = feeders_of(service)
    began = time.monotonic()
    found.memory = {"service": None, "feeder": None}
    while not found.gone_from_memory and time.monotonic() - began < canary.patience:
        seen = False
        for name, pid in (("feeder", feeder), ("service", service)):
            if found_in_memory(pid, needles):
                found.memory[name], seen = time.monotonic() - began, True
        elapsed = time.monotonic() - began
        found.first_look = found.first_look or elapsed
        found.gone_from_memory = not seen and elapsed > canary.quiet
        if elapsed > canary.quiet and not found.gone_from_memory:
            publish(_noise(BATCH, seed=int(1000 * elapsed)))
            time.sleep(BATCH / canary.rate)


def _watch_disk(
    canary: Canary, stream: StreamSettings, folder: Path, needles: Needles, found: Sighting
) -> None:
    """Wait for the purge, and from then on search the broker's files until the canary is in none."""
    began, purged = time.monotonic(), None
    found.gone_from_disk = False
    with closing(KafkaSource(stream)) as source:
        while not found.gone_from_disk and time.monotonic() - began < canary.patience:
            now = time.monotonic()
            if purged is None and source.starts()[0] >= (canary.before + 1) * BATCH:
                purged = now
            there = bool(found_in_files(folder, needles))
            if purged is not None:
                found.on_disk = now - purged if there else found.on_disk
                found.gone_from_disk = not there
            time.sleep(POLL_SECONDS)


def _served(stream: StreamSettings, topic: str, needles: Needles) -> int:
    """Return how many records of ``topic`` hold the canary."""
    records = 0
    with closing(KafkaSource(stream.model_copy(update={"topic": topic}))) as source:
        ends = source.ends()
        reached = dict(source.seek({}))
        while any(reached[p] < end for p, end in ends.items()):
            for record in source.poll(1.0, 500, ()):
                reached[record.partition] = record.offset + 1
                parts = [record.value, *(value for _, value in record.headers)]
                records += any(needles.within(part) for part in parts if part)
    return records


def _planted() -> tuple[Needles, Outgoing]:
    """Return what to look for, and a batch with the canary: raw, as a PNG, and malformed."""
    rng = np.random.default_rng()  # another one every time: an old one could be found
    pixels = rng.integers(0, 256, LAYOUT.shape, np.uint8)
    raw, headers = encode(Sample(pixels, 3))
    with io.BytesIO() as file:
        Image.fromarray(pixels[0]).save(file, "PNG")
        picture = file.getvalue()
    as_png = [("content-type", PNG.encode()), ("label", b"3")]
    malformed = [(name, b"1,1,1" if name == "shape" else value) for name, value in headers]
    batch: Outgoing = [
        (raw, headers),
        (picture, as_png),
        (raw, malformed),
    ]
    return Needles.of(raw, picture), batch + _noise(BATCH - 2, seed=2)


def _noise(count: int, seed: int) -> Outgoing:
    rng = np.random.default_rng(seed)
    x_NCHW = rng.integers(0, 256, (count, *LAYOUT.shape), np.uint8)
    return [
        encode(Sample(x, int(label))) for x, label in zip(x_NCHW, rng.integers(0, 10, count), strict=True)
    ]
