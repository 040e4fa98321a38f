"""The service as a victim: ``lethe run`` in a process of its own, with its feeder, watched over HTTP."""

from pathlib import Path
from typing import Any

import httpx

from service.demo.processes import Children, ended_with_error
from service.demo.stage import environment, free_port
from service.settings import Settings

__all__ = ["Service"]


class Service:
    """One start of ``lethe run``; its output goes to ``log``."""

    def __init__(
        self, children: Children, client: httpx.Client, name: str, settings: Settings, log: Path
    ) -> None:
        self._client, self._name, self._log = client, name, log
        # another port each time: the last one may meanwhile be an outgoing connection's
        port = free_port()
        served = settings.model_copy(update={"serve": settings.serve.model_copy(update={"port": port})})
        self._url = f"http://127.0.0.1:{port}/state"
        self._process = children.start(name, "service.cli", ["run"], log, environment(served))

    def kill(self) -> None:
        """Kill the service alone: its feeder must notice by itself."""
        self._process.kill()
        self._process.wait()

    def ended(self) -> bool:
        """Tell whether the run has come to its end; raises ChildFailed if that was an error."""
        status = self._process.poll()
        if status:
            raise ended_with_error(self._name, status, self._log)
        return status is not None

    def learned(self) -> int:
        """Return the samples it says it has learned; 0 while it does not answer."""
        state = self.state()
        return int(state["samples"]["learned"]) if state else 0

    def state(self) -> dict[str, Any] | None:
        """Return what it says of itself; None while it does not answer."""
        try:
            state: dict[str, Any] = self._client.get(self._url).json()
        except httpx.TransportError:
            return None
        return state
