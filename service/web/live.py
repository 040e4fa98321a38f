"""``GET /events``: the run as it goes, as server-sent events, for the page and for whoever else listens.

Two kinds: ``state``, every second, is what /state answers; ``figures``, after each evaluation and every
few seconds, is what the report would draw of the run so far: Plotly's data, and tables as HTML.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final, TypeVar

from fastapi import APIRouter, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from service.journal import Journal
from service.privacy.standing import Standing
from service.report import figures, tables
from service.report.classes import by_class
from service.report.words import headline, percent, points
from service.result import RunResult
from service.web.state import state_of

__all__ = ["MOST_LISTENERS", "Live", "live_router"]

MOST_LISTENERS: Final = 32
"""Open connections to /events; who comes on top is turned away."""
STATE_SECONDS: Final = 1.0
FIGURES_SECONDS: Final = 5.0
"""Without an evaluation, the figures are drawn anew as often as this, if anything was learned."""
TICK_SECONDS: Final = 0.2
MOST_POINTS: Final = 300
"""Of a curve, more than a screen shows; the report has them all."""
MOST_COLUMNS: Final = 60
"""The same of evaluations class by class."""

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class _Progress:
    """How far a run is; ``evaluated`` differs from evaluation to evaluation."""

    learned: int
    evaluated: tuple[float, int, bool]

    @classmethod
    def of(cls, journal: Journal) -> "_Progress":
        state = journal.state()
        evaluated = (state["evaluation_seconds"], state["visit"], bool(state["accuracy"]))
        return cls(state["samples"]["learned"], evaluated)


class Live:
    """Renders the messages, each once for all listeners, and only while there are any."""

    def __init__(
        self, journal: Journal, standing: Standing, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._journal, self._standing, self._clock = journal, standing, clock
        self._state = (-STATE_SECONDS, "")
        self._figures: tuple[float, _Progress | None, str] = (-FIGURES_SECONDS, None, "")
        self._drawing = asyncio.Lock()

    def state(self) -> str:
        """Return the message of kind ``state``, at most a second old."""
        now = self._clock()
        if now - self._state[0] >= STATE_SECONDS:
            self._state = (now, _message("state", state_of(self._journal, self._standing).model_dump_json()))
        return self._state[1]

    async def figures(self) -> str:
        """Return the message of kind ``figures``; it is drawn anew when there is something new."""
        async with self._drawing:
            drawn_at, before, message = self._figures
            now, progress = self._clock(), _Progress.of(self._journal)
            old = now - drawn_at >= FIGURES_SECONDS and progress != before
            if before is None or progress.evaluated != before.evaluated or old:
                message = await run_in_threadpool(self._draw)
                self._figures = (now, progress, message)
            return message

    def _draw(self) -> str:
        return _message("figures", json.dumps(_drawn(self._journal.result()), separators=(",", ":")))


def live_router(live: Live) -> APIRouter:
    """Return the route; it answers until ``app.state.closing`` is set."""
    router = APIRouter()
    listeners = 0

    @router.get(
        "/events",
        summary="The run as it goes, as server-sent events",
        response_class=StreamingResponse,
        responses={
            200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
            503: {"description": "Too many are listening."},
        },
    )
    async def events(request: Request) -> StreamingResponse:
        nonlocal listeners
        if listeners >= MOST_LISTENERS:
            raise HTTPException(503, f"{MOST_LISTENERS} are listening", {"Retry-After": "10"})
        listeners += 1

        async def told() -> AsyncIterator[str]:
            nonlocal listeners
            try:
                async for message in _messages(live, request):
                    yield message
            finally:
                listeners -= 1

        return StreamingResponse(
            told(),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    return router


async def _messages(live: Live, request: Request) -> AsyncIterator[str]:
    """Yield each message that is not the one before of its kind, until the service stops."""
    last_state = last_figures = ""
    yield "retry: 2000\n\n"
    while not getattr(request.app.state, "closing", False):
        state, figures = live.state(), await live.figures()
        if state is not last_state:
            yield state
            last_state = state
        if figures is not last_figures:
            yield figures
            last_figures = figures
        await asyncio.sleep(TICK_SECONDS)


def _message(kind: str, data: str) -> str:
    return f"event: {kind}\ndata: {data}\n\n"


def _drawn(run: RunResult) -> dict[str, Any]:
    run = run.model_copy(
        update={
            "evaluations": _thinned(run.evaluations, lambda point: point.full),
            "classes": _thinned(run.classes, most=MOST_COLUMNS),
            "prequential": _thinned(run.prequential),
            "throughput": _thinned(run.throughput),
        }
    )
    axes = figures.Axes.of([run])
    drawn = {
        "accuracy": figures.accuracy(run, axes) if run.evaluations else None,
        "prequential": figures.prequential(run, axes) if run.prequential else None,
        "calibration": figures.calibration(run, axes) if run.evaluations else None,
        "throughput": figures.throughput(run, axes) if run.throughput else None,
        "forgetting": figures.forgetting(run, axes) if run.forgetting_by_probe else None,
    }
    legend = [
        {
            "name": probe,
            "color": figures.colour(axes.probes, probe),
            "dashed": figures.is_dashed(axes.probes, probe),
        }
        for probe in axes.probes
    ]
    return {
        "learner": run.learner,
        "summary": run.summary,
        "sentence": _sentence(run),
        "tiles": {"bwt": points(run.bwt), "forgetting": points(run.forgetting)},
        "scores": tables.glance(run),
        "figures": {name: figure for name, figure in drawn.items() if figure is not None},
        "classes": [
            {"name": probe, "figure": by_class(run, probe, axes)}
            for probe in run.probes
            if any(point.accuracy.get(probe) for point in run.classes)
        ],
        "legend": legend,
        "numbered": list(run.segments) if figures.naming(run) == "numbers" else [],
        "matrix": tables.matrix(run) if run.R else "",
    }


def _sentence(run: RunResult) -> dict[str, str]:
    """Return the headline, as HTML: of the old skill that lost most, or of what is learned first."""
    if not (run.segments or run.samples.learned):
        return {
            "verdict": f"{escape(run.learner)} waits for its first sample",
            "numbers": "",
            "circumstance": "",
        }
    if run.segments and not run.forgetting_by_probe:
        verdict = f"{escape(run.learner)} is learning {escape(run.segments[-1])}"
        return {"verdict": verdict, "numbers": percent(run.acc), "circumstance": "so far"}
    said = headline(run)
    return {
        "verdict": escape(said.verdict),
        "numbers": escape(said.numbers),
        "circumstance": escape(said.circumstance),
    }


def _thinned(
    items: Sequence[_Item], always: Callable[[_Item], bool] = lambda _: False, most: int = MOST_POINTS
) -> list[_Item]:
    """Return at most about ``most`` of ``items``, evenly, the last one and those ``always`` names."""
    every = -(-len(items) // most)
    last = len(items) - 1
    return [item for i, item in enumerate(items) if i % every == 0 or i == last or always(item)]
