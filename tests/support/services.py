"""Runs ``lethe run`` as a child process."""

import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.brokers import StreamBroker
from tests.support.forked import forked
from tests.support.waiting import until

__all__ = ["Command", "Service", "api_version", "service"]


class Command:
    """``lethe`` with ``arguments``, in a process that begins with everything imported; output in ``log``."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], log: Path) -> None:
        self._process = forked().Process(target=_be_lethe, args=(arguments, dict(environment), log))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float) -> int:
        """Wait until it has ended, and return the exit status."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"it has not ended within {seconds:g} s"
        return self._process.exitcode

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def _be_lethe(arguments: list[str], environment: dict[str, str], log: Path) -> None:
    from lethe.cli.main import main

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["lethe", *arguments]
    main()


class Service:
    """A running service; its results are in ``folder`` / report."""

    def __init__(self, process: Command, folder: Path) -> None:
        self.process = process
        self.report = folder / "report"
        self._log = folder / "service.log"

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    @property
    def address(self) -> str:
        """The address of its HTTP server; waits until the log contains it."""
        until(lambda: " at http://" in self.log or self.process.poll() is not None, "the service serves")
        found = re.search(r" at (http://\S+)", self.log)
        assert found is not None, self.log
        return found[1]

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.address + path, timeout=30)

    @property
    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.get("/state").json()
        return state

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send SIGTERM, wait for the end and return the seconds it took."""
        asked = time.monotonic()
        self.process.send(number)
        self.process.wait(90)
        return time.monotonic() - asked


@contextmanager
def service(broker: StreamBroker, topic: str, folder: Path, **variables: object) -> Iterator[Service]:
    """Run the service on ``topic``; ``variables`` are settings such as ``STREAM__STOP_AFTER``."""
    settings: dict[str, object] = {
        "STREAM__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "STREAM__TOPIC": topic,
        "STREAM__GROUP": topic,
        "LEARNER__DEVICE": "cpu",
        "SERVE__PORT": 0,
        "RUN__REPORT": folder / "report",
    }
    settings |= {"STREAM__API_VERSION": version} if (version := api_version(broker)) else {}
    env = {f"LETHE_{name}": str(value) for name, value in (settings | variables).items()}
    process = Command(["run"], {**os.environ, **env}, folder / "service.log")
    try:
        yield Service(process, folder)
    finally:
        process.kill()


def api_version(broker: StreamBroker) -> str | None:
    """The api_version of a client, as a setting."""
    return None if broker.api_version is None else ".".join(map(str, broker.api_version))
