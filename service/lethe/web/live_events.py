"""``GET /events``: the run so far as server-sent events, for the live page and other clients.

There are two kinds of event. ``state``, every second, is what /state returns. ``figures``, after each
evaluation and every few seconds, is what the report would draw of the run so far: figures for Plotly, and
tables as HTML.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from lethe.observability.model_standing import ModelStanding
from lethe.observability.run_state import RunState
from lethe.privacy.status import PolicyStatus
from lethe.web.event_listeners import EventListeners
from lethe.web.live_view import live_view
from lethe.web.rejected_requests import RejectionReason
from lethe.web.state import state_of

__all__ = ["LiveFeed", "live_router"]

STATE_SECONDS: Final = 1.0
FIGURES_SECONDS: Final = 5.0
"""Interval at which figures are redrawn between evaluations, if samples were learned."""
TICK_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class _Progress:
    """How far a run is; ``evaluated`` differs from evaluation to evaluation."""

    learned: int
    evaluated: tuple[float, int, bool]

    @classmethod
    def of(cls, run_state: RunState) -> "_Progress":
        state = run_state.state()
        evaluated = (state["evaluation_seconds"], state["visit"], bool(state["accuracy"]))
        return cls(state["samples"]["learned"], evaluated)


class LiveFeed:
    """The events of a run; each is rendered once for all listeners, and only while there are any.

    ``beside`` is as in `state_of`.
    """

    def __init__(
        self,
        run_state: RunState,
        policy_status: PolicyStatus,
        clock: Callable[[], float] = time.monotonic,
        beside: Callable[[], Sequence[ModelStanding]] = tuple,
    ) -> None:
        self._run_state, self._policy_status, self._clock = run_state, policy_status, clock
        self._beside = beside
        self._state = (-STATE_SECONDS, b"")
        self._figures: tuple[float, _Progress | None, bytes] = (-FIGURES_SECONDS, None, b"")
        self._drawing = asyncio.Lock()

    def state(self) -> bytes:
        """Return the event of kind ``state``, at most a second old."""
        now = self._clock()
        if now - self._state[0] >= STATE_SECONDS:
            state = state_of(self._run_state, self._policy_status, self._beside).model_dump_json()
            self._state = (now, _event("state", state))
        return self._state[1]

    async def figures(self) -> bytes:
        """Return the event of kind ``figures``, redrawn if the run has made progress."""
        async with self._drawing:
            drawn_at, before, event = self._figures
            now, progress = self._clock(), _Progress.of(self._run_state)
            outdated = now - drawn_at >= FIGURES_SECONDS and progress != before
            if before is None or progress.evaluated != before.evaluated or outdated:
                event = await run_in_threadpool(self._draw)
                self._figures = (now, progress, event)
            return event

    def _draw(self) -> bytes:
        return _event("figures", json.dumps(live_view(self._run_state.result()), separators=(",", ":")))


def live_router(
    feed: LiveFeed,
    on_rejected: Callable[[RejectionReason], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> APIRouter:
    """Return the route of /events, which streams until ``app.state.closing`` is set.

    ``on_rejected`` is called for each listener that is turned away.
    """
    router = APIRouter()
    listeners = EventListeners(on_rejected, clock)

    @router.get(
        "/events",
        summary="The run so far, as server-sent events",
        response_class=StreamingResponse,
        responses={
            200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
            503: {"description": "Too many clients are listening."},
        },
    )
    async def events(request: Request) -> StreamingResponse:
        listener = listeners.admit(request.scope.get("extensions", {}))
        return StreamingResponse(
            listeners.stream(listener, _events(feed, request)),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    return router


async def _events(feed: LiveFeed, request: Request) -> AsyncIterator[bytes]:
    """Yield each event that differs from the one before of its kind, until the service stops.

    A slow client misses intermediate events and gets the newest.
    """
    last_state = last_figures = b""
    yield b"retry: 2000\n\n"
    while not getattr(request.app.state, "closing", False):
        state, figures = feed.state(), await feed.figures()
        if state is not last_state:
            yield state
            last_state = state
        if figures is not last_figures:
            yield figures
            last_figures = figures
        await asyncio.sleep(TICK_SECONDS)


def _event(kind: str, data: str) -> bytes:
    return f"event: {kind}\ndata: {data}\n\n".encode()  # the same bytes for every listener
