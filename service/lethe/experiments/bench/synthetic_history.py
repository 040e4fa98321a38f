"""A synthetic evaluation history of realistic size, for pages and metrics to render.

With an empty history, rendering would cost less than in a real service.
"""

import math
from collections.abc import Iterator
from typing import Final

from lethe.evaluation.history import History
from lethe.events import Evaluated, Event, Reading, Resumed, SegmentStarted

__all__ = ["CLASSES", "SUBJECTS", "resume_events", "synthetic_history"]

SUBJECTS: Final = ("mnist", "fashion-mnist")
"""Segments, each with a probe of the same name."""
CLASSES: Final = 10
EVERY: Final = 5000
SEGMENT: Final = 50_000


def synthetic_history() -> History:
    """Return the history of two segments, the first of which is half forgotten at the end."""
    history = History(SUBJECTS)
    history.evaluated(_evaluation(history, ends_segment=False))
    for regime, subject in enumerate(SUBJECTS, start=1):
        history.segment_started(subject)
        if regime > 1:
            history.boundary_detected("features")
        history.regime_assigned(regime)
        for _ in range(SEGMENT // EVERY):
            history.learned(EVERY, 9 * EVERY // 10)
            history.evaluated(_evaluation(history, ends_segment=False))
        history.evaluated(_evaluation(history, ends_segment=True))
    return history


def resume_events(history: History) -> Iterator[Event]:
    """Yield the events that a service emits when it resumes with ``history``."""
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
    """Accuracy rises while the probe's segment is learned, and falls to half of its best in later ones."""
    since = history.samples - (place - 1) * SEGMENT
    learned = min(max(since, 0), SEGMENT)
    skill = 0.1 + 0.85 * (1 - math.exp(-learned / EVERY))
    skill *= 0.5 + 0.5 * math.exp(-max(since - SEGMENT, 0) / EVERY)
    by_class = tuple(skill ** (0.5 + label / CLASSES) for label in range(CLASSES))
    return Reading(skill, skill, by_class, 0.8 * (1 - skill))
