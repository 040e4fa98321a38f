"""Connections, limited in number, in the length of a request's head, and in how long it may take.

uvicorn limits none of these: connections that say nothing would take all the descriptors of a process that
also needs them for Kafka, checkpoints and reports. Its protocol is extended here by its public names alone;
they are the same from uvicorn 0.34 to 0.54.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["HEAD_SECONDS", "MOST_CONNECTIONS", "MOST_HEAD", "Limits", "limited"]

MOST_CONNECTIONS: Final = 256
"""Open at once: far below the 1,024 descriptors that a process usually has."""
HEAD_SECONDS: Final = 10.0
MOST_HEAD: Final = 64 * 1024
"""Bytes, as many as uvicorn's other parser takes."""

_TOO_LONG: Final = b"the request's head is too long"
_REFUSAL: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\n"
    b"connection: close\r\n\r\n%s"
) % (len(_TOO_LONG), _TOO_LONG)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take up."""

    connections: int = MOST_CONNECTIONS
    """Open at once; for one more, that is closed which has waited longest for the head of a request."""
    head_seconds: float = HEAD_SECONDS
    """From the connection, or the answer before, until a request's head is there; no byte lengthens it."""
    head_bytes: int = MOST_HEAD
    """Request line and headers; a longer head is answered 431."""


def limited(limits: Limits) -> type[HttpToolsProtocol]:
    """Return the protocol, for ``uvicorn.Config(http=...)``, that keeps ``limits``."""
    return type("LimitedProtocol", (_LimitedProtocol,), {"limits": limits})


class _LimitedProtocol(HttpToolsProtocol):
    """Either answers a request, or waits for the next head, against the clock."""

    limits: Limits
    _late: asyncio.TimerHandle | None = None
    _unsent = 0
    """Bytes of the answer before that were not sent when the clock began."""
    _head = 0
    """Bytes received of a head that is not complete."""
    _in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self._wait_for_head()
        open_ones = [other for other in self.connections if not other.transport.is_closing()]
        if len(open_ones) > self.limits.connections:
            # whoever floods the service says nothing; whoever has a request, as Prometheus has, says it soon
            idle = [other for other in open_ones if isinstance(other, _LimitedProtocol) and other._idle]
            min(idle, key=lambda other: other._waits_since).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Hand on ``data``, of an incomplete head no more than what a head may have."""
        while data and not self.transport.is_closing():
            part = data if self._in_body else data[: self.limits.head_bytes - self._head]
            self._head += 0 if self._in_body else len(part)
            super().data_received(part)  # sets _head to 0 where a head comes to its end
            if self._head >= self.limits.head_bytes:
                self._refuse()
            data = data[len(part) :]

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._head, self._in_body = 0, True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._answering():
            # not from the next head's first byte: the rest of a body that nobody reads would go on for ever
            self._wait_for_head()

    @property
    def _idle(self) -> bool:
        return self._late is not None and not self.transport.get_write_buffer_size()

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
        if self.transport.get_write_buffer_size() < self._unsent:
            self._wait_for_head()  # a slow client is still reading its answer
        else:
            self.transport.abort()

    def _refuse(self) -> None:
        if self._answering():
            self.transport.abort()  # the refusal would stand in the middle of another answer
        else:
            self.transport.write(_REFUSAL)
            self.transport.close()
