"""Judgement: what the stream's headers say is held against what was found without them."""

from service.boundaries import Boundaries
from service.evaluation.history import History
from service.events import (
    BoundariesJudged,
    BoundaryDetected,
    Emit,
    Event,
    RegimeTold,
    Resumed,
    SegmentStarted,
)

__all__ = ["Judgement"]


class Judgement:
    """A subscriber to a run's events that tells, after each that matters, how well boundaries are found.

    It says nothing of a stream that names no segments: there is no truth to hold anything against.
    """

    def __init__(self, history: History, emit: Emit) -> None:
        self._history, self._emit = history, emit

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if (
            isinstance(event, SegmentStarted | BoundaryDetected | RegimeTold | Resumed)
            and self._history.segments
        ):
            self._emit(self._judged())

    def _judged(self) -> BoundariesJudged:
        boundaries = Boundaries.of(self._history)
        found = [delay for delay in boundaries.delays if delay is not None]
        awaited = boundaries.delays[-1:] == [None]
        return BoundariesJudged(
            found=len(found),
            missed=boundaries.missed - awaited,
            awaited=awaited,
            false_alarms=boundaries.false_alarms,
            delay=found[-1] if found else None,
            returns=boundaries.returns,
            recognised=boundaries.recognised,
            mistaken=boundaries.mistaken,
        )
