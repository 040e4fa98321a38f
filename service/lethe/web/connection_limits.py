"""Limits the number of open connections, the length of a request's head and the time that a client takes.

uvicorn limits none of these. Idle connections could take all file descriptors of the process, which also
needs them for Kafka, checkpoints and reports, and unread responses all its memory. The protocol is extended
through public names only, which are the same from uvicorn 0.34 to 0.54.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lethe.web.rejected_requests import RejectionReason

__all__ = [
    "ABORT",
    "HEAD_SECONDS",
    "MAX_CONNECTIONS",
    "MAX_HEAD_BYTES",
    "READ_SECONDS",
    "ConnectionLimits",
    "limited_protocol",
]

MAX_CONNECTIONS: Final = 256
"""Open connections; far fewer than the 1,024 file descriptors that a process usually has."""
HEAD_SECONDS: Final = 10.0
MAX_HEAD_BYTES: Final = 64 * 1024
"""The limit of uvicorn's other parser."""
READ_SECONDS: Final = 10.0
MAX_UNSENT_BYTES: Final = 32 * 1024
"""Bytes of a response that are buffered before the application is paused."""
MIN_READ_BYTES: Final = 1024
"""Bytes that a client reads within `HEAD_SECONDS` if it is still reading its response."""
ABORT: Final = "lethe.abort"
"""Name of the ASGI extension with which an application closes the connection of a request."""

_TOO_LONG: Final = b"the head of the request is too long"
_HEAD_TOO_LONG: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\n"
    b"x-content-type-options: nosniff\r\n"
    b"connection: close\r\n\r\n%s"
) % (len(_TOO_LONG), _TOO_LONG)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits for clients."""

    connections: int = MAX_CONNECTIONS
    """Open connections. For one more, the one is closed that has waited longest for its client, either to
    send the rest of a request or to read more of a response."""
    head_seconds: float = HEAD_SECONDS
    """Time from the connection, or the previous response, to the end of the request's head; receiving part of
    it does not extend the time."""
    head_bytes: int = MAX_HEAD_BYTES
    """Length of the request line and the headers; a longer head gets a 431."""
    read_seconds: float = READ_SECONDS
    """Time within which a client must read the `MAX_UNSENT_BYTES` that are buffered for it."""


def limited_protocol(
    limits: ConnectionLimits, on_rejected: Callable[[RejectionReason], None]
) -> type[HttpToolsProtocol]:
    """Return the protocol class for ``uvicorn.Config(http=...)`` that enforces ``limits``.

    ``on_rejected`` is called for each connection that is closed because of them.
    """
    return type(
        "LimitedProtocol", (_LimitedProtocol,), {"limits": limits, "on_rejected": staticmethod(on_rejected)}
    )


class _LimitedProtocol(HttpToolsProtocol):
    """Handles a request, or waits for the next head with a timeout."""

    limits: ConnectionLimits
    on_rejected: Callable[[RejectionReason], None]
    _late: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    """Running while the client does not read."""
    _waits_since = 0.0
    """When it began to wait for the client, if it does."""
    _aborted = False
    _unsent = 0
    """Bytes of the previous response that were unsent when the timeout for the next head began."""
    _head = 0
    """Bytes received of an incomplete head."""
    _in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=MAX_UNSENT_BYTES)
        self._wait_for_head()
        ours = [other for other in self.connections if isinstance(other, _LimitedProtocol)]
        if sum(not other._aborted for other in ours) > self.limits.connections:
            # a flood sends nothing or does not read; a client such as Prometheus sends its request at once
            # and reads the response
            waiting = (other for other in ours if other._waits_for_client and not other._aborted)
            min(waiting, key=lambda other: other._waits_since)._close(RejectionReason.CROWDED)

    def connection_lost(self, exc: Exception | None) -> None:
        self._aborted = True
        self._drop_bodies()
        self._stop_waiting()
        self._has_read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass ``data`` on, of an incomplete head no more than its maximum length."""
        while data and not self.transport.is_closing():
            part = data if self._in_body else data[: self.limits.head_bytes - self._head]
            self._head += 0 if self._in_body else len(part)
            super().data_received(part)  # sets _head to 0 at the end of a head
            if self._head >= self.limits.head_bytes:
                self._reject_head()
            data = data[len(part) :]

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._head, self._in_body, self._waits_since = 0, True, self.loop.time()
        self.scope["extensions"] = {ABORT: {"abort": self._close}}
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if not self._answering():
            self._drop_bodies()
        super().on_response_complete()
        if not self._answering():
            # not from the first byte of the next head: an endless rest of a body that is not read would have
            # no timeout
            self._wait_for_head()

    def pause_writing(self) -> None:
        """Start the timeout for the client to read."""
        super().pause_writing()
        if self._unread is None and not self._aborted:
            self._waits_since = self.loop.time()
            self._unread = self.loop.call_later(
                self.limits.read_seconds, self._close, RejectionReason.SLOW_READER
            )

    def resume_writing(self) -> None:
        """Stop the timeout, as most of the buffer was sent."""
        self._has_read()
        super().resume_writing()

    def _has_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    @property
    def _waits_for_client(self) -> bool:
        return self._late is not None or self._in_body or self._unread is not None

    def _close(self, reason: RejectionReason) -> None:
        if not self._aborted:
            self._aborted = True
            self.on_rejected(reason)
            self.transport.abort()

    def _drop_bodies(self) -> None:
        """Drop the body of a request that was rejected before its body was read, which uvicorn would keep."""
        for cycle in (self.cycle, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None and (cycle.response_complete or self._aborted):
                cycle.body = bytearray()

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._waits_since = self.loop.time()
        self._unsent = self.transport.get_write_buffer_size()
        self._late = self.loop.call_later(self.limits.head_seconds, self._abort)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _abort(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if self._unsent - unsent >= min(self._unsent, MIN_READ_BYTES) > 0:
            self._wait_for_head()  # a slow client is still reading its response
        elif self._head:
            self._close(RejectionReason.SLOW_HEAD)
        elif unsent:
            self._close(RejectionReason.SLOW_READER)
        else:  # an idle keep-alive connection; nothing is rejected
            self._aborted = True
            self.transport.abort()

    def _reject_head(self) -> None:
        if self._answering():
            self._close(RejectionReason.LONG_HEAD)  # its text would be inside another response
        else:
            self.on_rejected(RejectionReason.LONG_HEAD)
            self.transport.write(_HEAD_TOO_LONG)
            self.transport.close()
