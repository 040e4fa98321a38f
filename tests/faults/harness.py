"""A service that faults are done to: forked, watched over HTTP, and compared by what it came to."""

import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from service.checkpoint import At, ignore
from service.compose import run_service
from service.demo.stage import free_port
from service.errors import LetheError
from service.feed import Processes
from service.learners import LEARNERS
from service.settings import Settings
from tests.forked import fork_server, forked, share
from tests.waiting import until

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
"""Pixels a side: the learners are small then, and a checkpoint is written in milliseconds."""
EVERY: Final = 128
"""Samples between two checkpoints."""
Start = Callable[[str], Processes]
"""Gives, in the service's own process, what starts its feeder; it is told where to fork from."""
CLIENT: Final = httpx.Client(timeout=5)
FAILED: Final = 2


@dataclass(frozen=True)
class Stage:
    """A filled topic, and what is measured on it."""

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
            "learner": {"name": learner, "threads": 1, "device": "cpu"},
            "evaluation": {"probes": self.probes, "every": 700, "subset": 20},
            "checkpoint": {"folder": folder, "every_samples": EVERY},
            "serve": {"port": free_port()},
        }
        for section, values in more.items():
            given.setdefault(section, {}).update(values)
        return Settings.read(given)


def serve(settings: Settings, log: Path, at: At, start: Start, server: str) -> None:
    """Be ``lethe run``, with its output in ``log``."""
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
    """One start of the service; a `service.chaos.victim.Victim`."""

    def __init__(self, settings: Settings, at: At = ignore, start: Start = share) -> None:
        folder = settings.checkpoint.folder
        assert folder is not None
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder.parent / f"{folder.name}.log"
        self._log.touch()
        self._began = self._log.stat().st_size
        self._address = f"http://127.0.0.1:{settings.serve.port}"
        self._process = forked().Process(target=serve, args=(settings, self._log, at, start, fork_server()))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What this start has written."""
        return self._log.read_bytes()[self._began :].decode()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def ended(self) -> bool:
        status = self._process.exitcode
        assert status in (None, 0), f"status {status}:\n{self.log}"
        return status is not None

    def status(self, seconds: float = 90) -> int:
        """Wait for the end, and return the exit status."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"it has not ended after {seconds:g} s:\n{self.log}"
        return self._process.exitcode

    def learned(self) -> int:
        try:
            return int(self.state()["samples"]["learned"])
        except httpx.TransportError:
            return 0

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = CLIENT.get(f"{self._address}/state").json()
        return state

    def metric(self, name: str) -> float:
        """The value of a metric without labels, as Prometheus would read it."""
        text = CLIENT.get(f"{self._address}/metrics").text
        found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        assert found is not None, f"no {name} in:\n{text}"
        return float(found[1])

    def has_learned(self, samples: int) -> None:
        """Wait until so many samples are learned."""
        until(lambda: self.ended() or self.learned() >= samples, f"{samples} samples are learned")


@contextmanager
def running(settings: Settings, at: At = ignore, start: Start = share) -> Iterator[Forked]:
    """A service that does not outlive the test."""
    service = Forked(settings, at, start)
    try:
        yield service
    finally:
        service.kill()


@contextmanager
def all_running(
    stage: Stage, folder: Path, start: Start = share, at: At = ignore, **more: Any
) -> Iterator[dict[str, Forked]]:
    """A service for each learner, all at once: what takes time befalls them together.

    ``more`` are values of settings by section.
    """
    with ExitStack() as services:
        yield {
            learner: services.enter_context(
                running(stage.settings(learner, folder / learner / "state", **more), at, start)
            )
            for learner in LEARNERS
        }
