"""Limits the number of clients that listen to ``/events``."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import HTTPException

from lethe.web.connection_limits import ABORT
from lethe.web.rejected_requests import RejectionReason

__all__ = ["MAX_LISTENERS", "EventListeners", "Listener"]

MAX_LISTENERS: Final = 64
"""Open connections to /events; for one more, the one that has not read for longest, or the oldest, closes."""
PROTECTED_SECONDS: Final = 5.0
"""A listener that reads is not closed for another within this time of its connecting."""
STUCK_SECONDS: Final = 0.2
"""A listener that has not read a message for this long may be closed at any age."""


@dataclass(eq=False, slots=True)
class Listener:
    """A client of /events."""

    since: float
    waiting_since: float | None = None
    """When the message that the client has not read yet was sent; None if it has read all."""
    abort: Callable[[RejectionReason], None] | None = None
    """Closes its connection; None if the server has no such extension."""


class EventListeners:
    """The clients of /events, at most `MAX_LISTENERS`.

    ``on_rejected`` is called for each one that is turned away; for one that is closed, its ``abort`` is.
    """

    def __init__(self, on_rejected: Callable[[RejectionReason], None], clock: Callable[[], float]) -> None:
        self._on_rejected, self._clock = on_rejected, clock
        self._all: set[Listener] = set()

    def admit(self, extensions: Mapping[str, Mapping[str, Any]]) -> Listener:
        """Admit one more listener, of a request with these ASGI ``extensions``.

        Raises HTTPException 503 when none of the others may be closed for it.
        """
        while len(self._all) >= MAX_LISTENERS:
            self._close(self._closable())
        abort = extensions.get(ABORT)
        listener = Listener(self._clock(), abort=None if abort is None else abort["abort"])
        self._all.add(listener)
        return listener

    async def stream(self, listener: Listener, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield ``messages`` until the listener has left."""
        try:
            async for message in messages:
                listener.waiting_since = self._clock()
                yield message
                listener.waiting_since = None
        finally:
            self._all.discard(listener)

    def _closable(self) -> Listener:
        now = self._clock()
        closable = [listener for listener in self._all if listener.abort is not None]
        stuck = [one for one in closable if one.waiting_since and now - one.waiting_since > STUCK_SECONDS]
        if stuck:
            return min(stuck, key=lambda listener: listener.waiting_since or now)
        oldest = min(closable, key=lambda listener: listener.since, default=None)
        if oldest is None or now - oldest.since < PROTECTED_SECONDS:
            self._on_rejected(RejectionReason.LISTENERS)
            raise HTTPException(503, f"{MAX_LISTENERS} clients are listening", {"Retry-After": "10"})
        return oldest

    def _close(self, listener: Listener) -> None:
        self._all.discard(listener)
        if listener.abort is not None:
            listener.abort(RejectionReason.LISTENERS)
