"""Runs ``lethe watch`` as a child process."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from deploy.kafka.kraft import free_port
from tests.support.services import Command

__all__ = ["Watching", "watching"]


class Watching:
    """A running ``lethe watch``; its output is in ``log``."""

    def __init__(self, arguments: Sequence[str], log: Path, token: str, variables: Mapping[str, str]) -> None:
        self.port, self._log = free_port(), log
        self.address = f"http://127.0.0.1:{self.port}"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.client = httpx.Client(base_url=self.address, headers=headers, timeout=60)
        command = ["watch", *arguments, "--port", str(self.port)]
        self.process = Command(command, os.environ | variables, log)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def get(self, path: str) -> httpx.Response | None:
        """The answer to a request; None while nothing answers yet. Fails if the command has ended."""
        assert self.process.poll() is None, self.log
        try:
            return self.client.get(path)
        except httpx.ConnectError:
            return None

    def state(self) -> dict[str, Any]:
        """What ``/state`` says; empty while nothing answers yet."""
        answer = self.get("/state")
        return {} if answer is None else answer.json()

    def lost(self, probe: str) -> float:
        """How much accuracy on a probe is lost."""
        lost: Mapping[str, float] = self.state().get("forgetting_by_probe", {})
        return lost.get(probe, 0.0)

    def metric(self, name: str, **labels: str) -> float:
        """The value of a series; every one has the label ``source="watched"`` besides ``labels``."""
        answer = self.get("/metrics")
        assert answer is not None
        chosen = sorted({**labels, "source": "watched"}.items())
        matchers = ",".join(f'{label}="{value}"' for label, value in chosen)
        series = f"{name}{{{matchers}}}"
        found = [line for line in answer.text.splitlines() if line.startswith(f"{series} ")]
        assert len(found) == 1, f"{series} is not in:\n{answer.text}"
        return float(found[0].removeprefix(series))


@contextmanager
def watching(
    arguments: Sequence[object], log: Path, token: str = "", variables: Mapping[str, str] | None = None
) -> Iterator[Watching]:
    """Run ``lethe watch`` with ``arguments``; when the block ends, it is stopped and must have status 0."""
    started = Watching([*map(str, arguments)], log, token, variables or {})
    try:
        yield started
        started.process.send(signal.SIGTERM)
        assert started.process.wait(240) == 0, started.log
    finally:
        started.process.kill()
        started.client.close()
