"""How long a killed service takes until it learns again: imports, and the rest.

The first one learns most of a stream of several subjects. Others go on from its last checkpoint with the
same settings, and are killed with SIGKILL as soon as they learn. What each says of its start
(`service.startup`) is from the begin of the process to its first learned batch: the checkpoint read and
verified, the learner put together, the feeder started, the broker reached.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx

from producers.publisher import Broker, Publisher
from producers.records import Record
from service.bench.subjects import subjects
from service.chaos.service import Service
from service.chaos.victim import Stuck, watch
from service.demo.processes import Children
from service.demo.stage import fresh_topic
from service.learners import find
from service.settings import Settings
from service.state_folder import checkpoint_files
from service.stream.settings import StreamSettings
from service.wire import Layout, Sample, encode

__all__ = ["RestartBench", "Restarts", "bench_restart"]

BATCHES: Final = 32
"""In the topic."""
LEFT: Final = 2
"""Of them, what the first service leaves to the others."""
PARTITION_RECORDS: Final = 4000
"""The embedded broker keeps 5 MiB of a partition, about 5,900 records."""
ANSWER_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.01
PATIENCE_SECONDS: Final = 180.0
"""A service that has learned nothing by then will not."""


@dataclass(frozen=True)
class RestartBench:
    """What is restarted, and how often."""

    learner: str = "ridge"
    broker: str | None = None
    """HOST:PORT of a Kafka cluster; None starts the embedded broker."""
    turns: int = 5


@dataclass
class Restarts:
    """Seconds from the begin of the process to the first learned batch, restart by restart."""

    seconds: list[float] = field(default_factory=list)
    imports: list[float] = field(default_factory=list)
    """Of them, until the libraries were imported."""
    size: int = 0
    """Of the checkpoint, in bytes."""

    @property
    def rest(self) -> list[float]:
        """All but the imports."""
        return [whole - imports for whole, imports in zip(self.seconds, self.imports, strict=True)]


def bench_restart(bench: RestartBench, seed: int = 0) -> Iterator[Restarts]:
    """Yield what was found so far after each restart. Raises LetheError when a part cannot start."""
    found, size = Restarts(), find(bench.learner).batch_size
    partitions = 1 + BATCHES * size // PARTITION_RECORDS if bench.broker is None else 1
    with (
        TemporaryDirectory(prefix="lethe-restart-", dir=Path.cwd()) as folder,  # /tmp may be memory
        fresh_topic(bench.broker, "restart", partitions) as stream,
        Children() as children,
        httpx.Client(timeout=ANSWER_SECONDS) as client,
    ):
        _fill(stream, partitions, BATCHES * size, seed)
        state = Path(folder) / "state"
        for turn in range(bench.turns + 1):
            ends = {"stop_after": (BATCHES - LEFT) * size} if turn == 0 else {}
            settings = Settings.read(
                {
                    "stream": stream.model_dump(exclude_unset=True) | {"group": stream.topic} | ends,
                    "learner": {"name": bench.learner, "seed": seed},
                    "batch": {"size": size},
                    "checkpoint": {"folder": state},
                }
            )
            service = Service(children, client, bench.learner, settings, Path(folder) / f"{turn}.log")
            if turn == 0:
                watch(service, lambda _: False)  # to its end
                found.size = checkpoint_files(state)[-1].stat().st_size
                continue
            started = _started(service)
            service.kill()
            found.seconds.append(started["seconds"])
            found.imports.append(started["imports_seconds"])
            yield found


def _started(service: Service) -> dict[str, float]:
    """Wait until a service has learned, and return what it says of its start."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not service.ended() and time.monotonic() < deadline:
        start: dict[str, float] | None = (service.state() or {}).get("start")
        if start is not None:
            return start
        time.sleep(LOOK_SECONDS)
    raise Stuck(f"the service learns nothing within {PATIENCE_SECONDS:.0f} s, or has come to its end")


def _fill(stream: StreamSettings, partitions: int, count: int, seed: int) -> None:
    x_NCHW, y_N = subjects(Layout(), count, seed)
    version = tuple(map(int, stream.api_version.split("."))) if stream.api_version else None
    with Publisher(Broker(stream.bootstrap_servers, version), stream.topic, partitions) as publisher:
        for i, (pixels, label) in enumerate(zip(x_NCHW, y_N, strict=True)):
            value, headers = encode(Sample(pixels, int(label)))
            publisher.send(Record(i, b"%d" % i, value, headers), i % partitions)
        publisher.flush()
