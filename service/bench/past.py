"""The past of a service that has been measured for a while: what pages and metrics have to show of it.

Made up, but of a real size: without it, watching would cost less than where there is something to see.
"""

import math
from collections.abc import Iterator
from typing import Final

from service.evaluation.history import History
from service.events import Evaluated, Event, Reading, Resumed, SegmentStarted

__all__ = ["CLASSES", "SUBJECTS", "history_of_a_run", "retold"]

SUBJECTS: Final = ("mnist", "fashion-mnist")
"""Segments, each with a probe."""
CLASSES: Final = 10
EVERY: Final = 5000
SEGMENT: Final = 50_000


def history_of_a_run() -> History:
    """Return what is remembered of two segments, in which the first is half forgotten by the end."""
    history = History(SUBJECTS)
    history.evaluated(_evaluation(history, ends_segment=False))
    for regime, subject in enumerate(SUBJECTS, start=1):
        history.segment_started(subject)
        if regime > 1:
            history.boundary_detected("features")
        history.regime_told(regime)
        for _ in range(SEGMENT // EVERY):
            history.learned(EVERY, 9 * EVERY // 10)
            history.evaluated(_evaluation(history, ends_segment=False))
        history.evaluated(_evaluation(history, ends_segment=True))
    return history


def retold(history: History) -> Iterator[Event]:
    """Yield what subscribers hear of such a past when a service goes on with it."""
    samples, latest = history.samples, history.latest()
    yield Resumed(samples, samples, {}, 0, {"features": len(history.boundaries)})
    switch = history.switches[-1]
    yield SegmentStarted(switch.segment, len(history.segments), switch.samples, resumed=True)
    if latest is not None:
        yield latest


def _evaluation(history: History, *, ends_segment: bool) -> Evaluated:
    visit = len(history.segments)
    readings = {subject: _reading(history, place) for place, subject in enumerate(SUBJECTS, start=1)}
    full = ends_segment or not visit
    segment = history.segments[-1] if visit else None
    return Evaluated(history.samples, readings, full, visit, segment, ends_segment, 0.5)


def _reading(history: History, place: int) -> Reading:
    """A skill rises while its segment is learned, and falls to a half of its best while others are."""
    since = history.samples - (place - 1) * SEGMENT
    taught = min(max(since, 0), SEGMENT)
    skill = 0.1 + 0.85 * (1 - math.exp(-taught / EVERY))
    skill *= 0.5 + 0.5 * math.exp(-max(since - SEGMENT, 0) / EVERY)
    by_class = tuple(skill ** (0.5 + label / CLASSES) for label in range(CLASSES))
    return Reading(skill, skill, by_class, 0.8 * (1 - skill))
