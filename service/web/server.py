"""Serves the application from a thread of the learning process, on a socket bound beforehand."""

import logging
import socket
import threading
import time
from types import TracebackType
from typing import Final, Self

import uvicorn
from fastapi import FastAPI

from service.errors import InvalidSetting
from service.web.connections import Limits, limited

__all__ = ["Server"]

logger = logging.getLogger(__name__)

BACKLOG: Final = 128
"""Connections taken from the system at one go: those beyond the limit need descriptors, too, until closed."""


class Server:
    """A context manager: serves on entry, stops on exit.

    Raises InvalidSetting when the address cannot be bound.
    """

    def __init__(self, app: FastAPI, host: str, port: int, limits: Limits | None = None) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # the protocol named: only then asyncio sends an answer's second half without 40 ms of delay
        self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise InvalidSetting(f"serve.host {host}, serve.port {port}: {error.strerror}") from error
        config = uvicorn.Config(
            app,
            http=limited(limits or Limits()),
            ws="none",
            loop="asyncio",  # uvloop was measured: it holds up learning no less
            backlog=BACKLOG,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self._server, self._app = uvicorn.Server(config), app
        self._thread = threading.Thread(target=self._serve, name="lethe-http", daemon=True)
        bound = self._socket.getsockname()
        self.address = f"http://{f'[{bound[0]}]' if family == socket.AF_INET6 else bound[0]}:{bound[1]}"

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])

    def __enter__(self) -> Self:
        self._app.state.closing = False
        self._thread.start()
        while self._thread.is_alive() and not self._server.started:
            time.sleep(0.005)
        logger.info("serving the live page, /metrics, /state and /predict at %s", self.address)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._app.state.closing = True  # ends answers that go on, such as /events
        self._server.should_exit = True
        self._thread.join(2)
        self._socket.close()
