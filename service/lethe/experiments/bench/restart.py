"""Measures how long a killed service takes to learn again: imports, and everything else.

A first service learns most of a stream of several subjects. Others resume from its last checkpoint with the
same settings and are killed with SIGKILL as soon as they learn. Each reports the time from the start of its
process to its first learned batch (`lethe.observability.startup`): reading and verifying the checkpoint,
building the learner, starting the reader process, connecting to the broker.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx

from lethe.checkpointing.state_folder import checkpoint_files
from lethe.experiments.bench.synthetic_images import subject_images
from lethe.experiments.chaos.kill_loop import NoProgress, wait_for
from lethe.experiments.chaos.service import Service
from lethe.experiments.processes import Children
from lethe.experiments.topics import publish, temporary_topic
from lethe.learners.registry import find
from lethe.settings import Settings
from lethe.wire import Layout, Sample, encode

__all__ = ["RestartBench", "Restarts", "bench_restart"]

BATCHES: Final = 32
"""Batches in the topic."""
LEFT: Final = 2
"""Batches that the first service leaves to the others."""
PARTITION_RECORDS: Final = 4000
"""Records per partition; the embedded broker retains 5 MiB, about 5,900 records."""
ANSWER_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.01
PATIENCE_SECONDS: Final = 180.0
"""Time limit for a service to learn its first batch."""


@dataclass(frozen=True)
class RestartBench:
    """Options of the benchmark."""

    learner: str = "ridge"
    broker: str | None = None
    """HOST:PORT of a Kafka cluster; None starts the embedded broker."""
    turns: int = 5


@dataclass
class Restarts:
    """Seconds from the start of the process to the first learned batch, per restart."""

    seconds: list[float] = field(default_factory=list)
    imports: list[float] = field(default_factory=list)
    """Seconds until the libraries were imported, per restart."""
    size: int = 0
    """Bytes of the checkpoint."""

    @property
    def rest(self) -> list[float]:
        """Seconds without the imports, per restart."""
        return [whole - imports for whole, imports in zip(self.seconds, self.imports, strict=True)]


def bench_restart(bench: RestartBench, seed: int = 0) -> Iterator[Restarts]:
    """Yield the measurements so far after each restart. Raises LetheError if a process cannot start."""
    found, size = Restarts(), find(bench.learner).batch_size
    partitions = 1 + BATCHES * size // PARTITION_RECORDS if bench.broker is None else 1
    with (
        TemporaryDirectory(prefix="lethe-restart-", dir=Path.cwd()) as folder,  # /tmp may be memory
        temporary_topic(bench.broker, "restart", partitions) as stream,
        Children() as children,
        httpx.Client(timeout=ANSWER_SECONDS) as client,
    ):
        x_NCHW, y_N = subject_images(Layout(), BATCHES * size, seed)
        publish(stream, (encode(Sample(x, int(y))) for x, y in zip(x_NCHW, y_N, strict=True)))
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
                wait_for(service, lambda _: False)  # until it ends
                found.size = checkpoint_files(state)[-1].stat().st_size
                continue
            started = _started(service)
            service.kill()
            found.seconds.append(started["seconds"])
            found.imports.append(started["imports_seconds"])
            yield found


def _started(service: Service) -> dict[str, float]:
    """Wait until the service has learned a batch, and return its report of its start."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not service.ended() and time.monotonic() < deadline:
        start: dict[str, float] | None = (service.state() or {}).get("start")
        if start is not None:
            return start
        time.sleep(LOOK_SECONDS)
    raise NoProgress(f"the service has learned nothing within {PATIENCE_SECONDS:.0f} s, or has ended")
