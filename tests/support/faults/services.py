"""A forked service to which faults are applied, observed over HTTP."""

import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from lethe.checkpointing.checkpoint import OnStep, ignore_step
from lethe.errors import LetheError
from lethe.ingest.reader_process import ProcessContext
from lethe.learners.registry import LEARNERS
from lethe.runtime.run import run_service
from lethe.settings import Settings
from tests.support.forked import fork_server, forked, share
from tests.support.waiting import until

__all__ = [
    "EVERY",
    "FAILED",
    "SIZE",
    "Forked",
    "Stage",
    "Start",
    "all_running",
    "running",
]

SIZE: Final = 8
"""Pixels per side: small learners, whose checkpoints are written in milliseconds."""
EVERY: Final = 128
"""Samples between two checkpoints."""
Start = Callable[[str], ProcessContext]
"""Returns, in the service's process, the context that starts its reader; takes the fork server's address."""
CLIENT: Final = httpx.Client(timeout=30, limits=httpx.Limits(max_keepalive_connections=0))
"""Keeps no connection: the service at its other end may have been killed since."""
FAILED: Final = 2


@dataclass(frozen=True)
class Stage:
    """A filled topic, with the probes of its services."""

    bootstrap_servers: str
    topic: str
    total: int
    probes: Path

    def settings(self, learner: str, folder: Path, **more: Any) -> Settings:
        """Settings of a run whose state is in ``folder``; ``more`` are values by section."""
        given: dict[str, dict[str, Any]] = {
            "stream": {
                "bootstrap_servers": self.bootstrap_servers,
                "topic": self.topic,
                "group": folder.parent.name,
                "stop_after": self.total,
            },
            "sample": {"height": SIZE, "width": SIZE, "max_bytes": 4096},
            "batch": {"size": 64},  # for every learner, so that checkpoints are as many
            "learner": {"name": learner, "threads": 1, "device": "cpu"},
            "evaluation": {"probes": self.probes, "every": 700, "subset": 20},
            "checkpoint": {"folder": folder, "every_samples": EVERY, "every_seconds": 3600},
            "serve": {"port": 0},
        }
        for section, values in more.items():
            given.setdefault(section, {}).update(values)
        return Settings.read(given)


def serve(settings: Settings, log: Path, at: OnStep, start: Start, server: str) -> None:
    """Run the service as ``lethe run`` does, with its output in ``log``."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    try:
        run_service(settings, at, start(server))
    except LetheError as error:
        sys.stderr.write(f"lethe: {error}\n")
        sys.stderr.flush()
        os._exit(FAILED)


class Forked:
    """One start of the service; a `lethe.experiments.chaos.kill_loop.KillableService`."""

    def __init__(self, settings: Settings, at: OnStep = ignore_step, start: Start = share) -> None:
        folder = settings.checkpoint.folder
        assert folder is not None
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder.parent / f"{folder.name}.log"
        self._log.touch()
        self._began = self._log.stat().st_size
        self._address = ""
        self._process = forked().Process(target=serve, args=(settings, self._log, at, start, fork_server()))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """The output since this start."""
        return self._log.read_bytes()[self._began :].decode()

    @property
    def address(self) -> str:
        """The address of its HTTP server; waits until the log contains it."""
        until(lambda: self.ended() or self._serves(), "the service serves")
        assert self._address, self.log
        return self._address

    def _serves(self) -> bool:
        if not self._address and (found := re.search(r" at (http://\S+)\n", self.log)):
            self._address = found[1]
        return bool(self._address)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def ended(self) -> bool:
        status = self._process.exitcode
        assert status in (None, 0), f"status {status}:\n{self.log}"
        return status is not None

    def status(self, seconds: float = 240) -> int:
        """Wait until it ends, and return the exit status."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"it has not ended after {seconds:g} s:\n{self.log}"
        return self._process.exitcode

    def learned(self) -> int:
        return self.count("learned")

    def count(self, outcome: str) -> int:
        """The number of samples with this outcome; 0 while the service does not respond."""
        if not self._serves():
            return 0
        try:
            return int(self.state()["samples"][outcome])
        except httpx.TransportError:
            return 0

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = CLIENT.get(f"{self.address}/state").json()
        return state

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        text = CLIENT.get(f"{self.address}/metrics").text
        found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        assert found is not None, f"no {name} in:\n{text}"
        return float(found[1])

    def has_learned(self, samples: int) -> None:
        """Wait until so many samples are learned."""
        until(lambda: self.ended() or self.learned() >= samples, f"{samples} samples are learned")


@contextmanager
def running(settings: Settings, at: OnStep = ignore_step, start: Start = share) -> Iterator[Forked]:
    """Run a service; kill it on exit."""
    service = Forked(settings, at, start)
    try:
        yield service
    finally:
        service.kill()


@contextmanager
def all_running(
    stage: Stage,
    folder: Path,
    start: Start = share,
    at: OnStep = ignore_step,
    learners: Iterable[str] = LEARNERS,
    **more: Any,
) -> Iterator[dict[str, Forked]]:
    """Run a service for each of the learners at the same time.

    ``more`` are values of settings by section.
    """
    with ExitStack() as services:
        yield {
            learner: services.enter_context(
                running(stage.settings(learner, folder / learner / "state", **more), at, start)
            )
            for learner in learners
        }
