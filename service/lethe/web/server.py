"""Serves the application from a thread of the learning process, on a socket bound in advance."""

import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Final, Self

import uvicorn
from fastapi import FastAPI

from lethe.errors import InvalidSetting
from lethe.web.connection_limits import ConnectionLimits, limited_protocol
from lethe.web.rejected_requests import RejectionReason
from lethe.web.security import AllowedHosts, SecurityMiddleware

__all__ = ["Server"]

logger = logging.getLogger(__name__)

BACKLOG: Final = 128
"""Connections accepted at once; those beyond the limit take descriptors, too, until they are closed."""
SEND_BUFFER: Final = 64 * 1024
"""Bytes of a response that the kernel buffers for a client. By default it would buffer megabytes for a slow
one, which count towards the container's memory."""


class Server:
    """An HTTP server in a thread. A context manager: serves on entry, stops on exit.

    Only requests for ``host`` or one of ``hosts`` are answered. ``on_rejected`` is called for each other
    request, and for each connection that is closed because of ``limits``. Raises InvalidSetting when the
    address cannot be bound.
    """

    def __init__(
        self,
        app: FastAPI,
        host: str,
        port: int,
        limits: ConnectionLimits | None = None,
        hosts: AllowedHosts | None = None,
        on_rejected: Callable[[RejectionReason], None] = lambda _: None,
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # with the protocol given, asyncio sets TCP_NODELAY; otherwise the body would be delayed by 40 ms
        self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # connections inherit it
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise InvalidSetting(f"serve.host {host}, serve.port {port}: {error.strerror}") from error
        config = uvicorn.Config(
            SecurityMiddleware(
                app, hosts or AllowedHosts([host]), partial(on_rejected, RejectionReason.HOST)
            ),
            http=limited_protocol(limits or ConnectionLimits(), on_rejected),
            ws="none",
            loop="asyncio",  # uvloop delays learning no less
            backlog=BACKLOG,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            headers=[("X-Content-Type-Options", "nosniff")],  # on uvicorn's own responses, too
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self._server, self._app = uvicorn.Server(config), app
        self._thread = threading.Thread(target=self._serve, name="lethe-http", daemon=True)
        bound = self._socket.getsockname()
        self.address = f"http://{f'[{bound[0]}]' if family == socket.AF_INET6 else bound[0]}:{bound[1]}"

        self.public = not ipaddress.ip_address(bound[0].partition("%")[0]).is_loopback

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
        self._app.state.closing = True  # ends streams such as /events
        self._server.should_exit = True
        self._thread.join(2)
        self._socket.close()
