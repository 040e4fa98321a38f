"""Runs ``lethe run`` as a child process and observes it over HTTP."""

from pathlib import Path
from typing import Any, Final

import httpx

from lethe.experiments.processes import Children, ended_with_error, environment, free_port
from lethe.settings import Settings

__all__ = ["Service"]

STOP_SECONDS: Final = 60.0
FAILED: Final = 2
"""Exit status of a command that ends with a LetheError."""


class Service:
    """A running ``lethe run``; its output goes to ``log``."""

    def __init__(
        self, children: Children, client: httpx.Client, name: str, settings: Settings, log: Path
    ) -> None:
        self._client, self._name, self._log = client, name, log
        # a new port each time: the last one may be in use by an outgoing connection
        port = free_port()
        served = settings.model_copy(update={"serve": settings.serve.model_copy(update={"port": port})})
        self._url = f"http://127.0.0.1:{port}/state"
        self._process = children.start(name, "lethe", ["run"], log, environment(served))

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    def kill(self) -> None:
        """Kill the service only; its reader process must notice by itself."""
        self._process.kill()
        self._process.wait()

    def ended(self) -> bool:
        """Return whether the run has ended; raises ChildFailed if it ended with an error."""
        status = self._process.poll()
        if status:
            raise ended_with_error(self._name, status, self._log)
        return status is not None

    def failed(self) -> bool:
        """Wait until the run has ended, and return whether it ended with a LetheError."""
        return self._process.wait(STOP_SECONDS) == FAILED

    @property
    def log(self) -> str:
        """The log so far."""
        return self._log.read_text(errors="replace")

    def learned(self) -> int:
        """Return the number of samples it reports as learned; 0 while it does not respond."""
        state = self.state()
        return int(state["samples"]["learned"]) if state else 0

    def metrics(self) -> str:
        """Return its page of metrics. Raises httpx.TransportError while it does not respond."""
        return self._client.get(self._url.removesuffix("state") + "metrics").text

    def state(self) -> dict[str, Any] | None:
        """Return its /state; None while it does not respond."""
        try:
            state: dict[str, Any] = self._client.get(self._url).json()
        except httpx.TransportError:
            return None
        return state
