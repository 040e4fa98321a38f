"""Scores detected boundaries and assigned regimes against the segments that the record headers name."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from pydantic import Field, NonNegativeInt, PositiveInt

from lethe.evaluation.history import History, HistorySnapshot
from lethe.events import (
    BoundariesScored,
    BoundaryDetected,
    Emit,
    Event,
    RegimeAssigned,
    Resumed,
    SegmentStarted,
    SegmentWithdrawn,
)
from lethe.models import Document

__all__ = [
    "AssignedRegime",
    "Boundaries",
    "BoundaryScoring",
    "BoundaryVerdict",
    "DetectedBoundary",
    "RegimeVerdict",
    "match_boundaries",
    "match_detected",
    "match_regimes",
    "switch_spans",
]


@dataclass(frozen=True, slots=True)
class BoundaryVerdict:
    """The detection delay of each switch, and the number of false alarms."""

    delays: tuple[int | None, ...]
    """Samples learned between each switch and its detection; None for a missed switch."""
    false_alarms: int

    @property
    def missed(self) -> int:
        """Switches that were not detected before the next one, or before the end."""
        return sum(delay is None for delay in self.delays)


def switch_spans(switches: Sequence[int], ramps: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return where each switch begins and ends: its ramp, or itself twice if it is abrupt."""
    return [next((ramp for ramp in ramps if ramp[0] <= at <= ramp[1]), (at, at)) for at in switches]


def match_boundaries(
    switches: Sequence[int],
    found: Sequence[int],
    ramps: Sequence[tuple[int, int]] = (),
    late: Sequence[int] | None = None,
) -> BoundaryVerdict:
    """Match detected boundaries with switches; all positions are samples learned, in ascending order.

    A boundary is reported at the end of a batch, after ``found`` samples. Its evidence was sufficient
    ``late`` samples earlier (0 if None). The evidence decides which switch a boundary belongs to, so that the
    batch size does not, and the delay counts until the report: the first boundary whose evidence comes after
    a switch, and not after the next switch, is that switch's detection; every other one is a false alarm.

    A gradual switch lasts from the start of its ramp to the end, as in
    CapyMOA's EvaluateDriftDetector: its delay counts from the start, and further detections up to the end
    are not false alarms, because the stream is still changing. A running service knows no ramps: there, a
    switch is the record whose header names another segment, in the middle of a ramp, and earlier detections
    are false alarms.

    >>> match_boundaries([1000, 2000], [400, 1064, 1500])
    BoundaryVerdict(delays=(64, None), false_alarms=2)
    >>> match_boundaries([1000], [400, 700, 1100, 1500], ramps=[(600, 1400)])
    BoundaryVerdict(delays=(100,), false_alarms=2)
    >>> match_boundaries([700, 1000], [1024], late=[64])
    BoundaryVerdict(delays=(324, None), false_alarms=0)
    """
    spans = switch_spans(switches, ramps)
    left = [(at - lag, at) for at, lag in zip(found, late or [0] * len(found), strict=True)]
    delays: list[int | None] = []
    for index, (begin, end) in enumerate(spans):
        next_begin = spans[index + 1][0] if index + 1 < len(spans) else math.inf
        hits = [(seen, at) for seen, at in left if begin < seen <= next_begin]
        delays.append(hits[0][1] - begin if hits else None)
        for hit in hits[:1] + [hit for hit in hits[1:] if hit[0] <= end]:
            left.remove(hit)
    return BoundaryVerdict(tuple(delays), len(left))


@dataclass(frozen=True, slots=True)
class RegimeVerdict:
    """How many visits to a segment were assigned the right regime."""

    returns: int
    """Visits to a segment that was visited before."""
    recognised: int
    """Returns that were assigned the segment's earlier regime."""
    mistaken: int
    """First visits to a segment that were assigned an earlier regime."""


def match_regimes(switches: Sequence[tuple[int, str]], assigned: Sequence[tuple[int, int]]) -> RegimeVerdict:
    """Match assigned regimes with segments; both are given with the samples learned before them.

    A visit's regime is the last one assigned before its end, possibly during an earlier visit. The latest
    visit does not count until a regime was assigned in it.

    >>> match_regimes([(0, "a"), (1000, "b"), (2000, "a"), (3000, "c")], [(256, 1), (1300, 2), (2300, 1)])
    RegimeVerdict(returns=1, recognised=1, mistaken=0)
    """
    returns = recognised = mistaken = 0
    regime_of: dict[str, int | None] = {}
    for index, (start, segment) in enumerate(switches):
        last = index + 1 == len(switches)
        end = math.inf if last else switches[index + 1][0]
        before = [(at, regime) for at, regime in assigned if at <= end]
        if last and not (before and before[-1][0] > start):
            break
        regime = before[-1][1] if before else None
        if segment in regime_of:
            returns += 1
            recognised += regime is not None and regime == regime_of[segment]
        else:
            mistaken += regime is not None and regime in regime_of.values()
        regime_of[segment] = regime
    return RegimeVerdict(returns, recognised, mistaken)


class DetectedBoundary(Document):
    """A boundary that ``signal`` detected after ``samples`` learned samples.

    The evidence was sufficient ``late`` samples earlier, within the batch that was then learned.
    """

    samples: NonNegativeInt
    signal: str
    late: NonNegativeInt = 0


def match_detected(
    switches: Sequence[int], detected: Sequence[DetectedBoundary], ramps: Sequence[tuple[int, int]] = ()
) -> BoundaryVerdict:
    """Match the boundaries of a run with switches; see `match_boundaries`."""
    return match_boundaries(switches, [b.samples for b in detected], ramps, [b.late for b in detected])


class AssignedRegime(Document):
    """The regime assigned after ``samples`` learned samples; an earlier number is a regime that returned."""

    samples: NonNegativeInt
    regime: PositiveInt


class Boundaries(Document):
    """The boundaries and regimes of a run, scored against its segments.

    ``delays`` holds, for each switch, the samples from it to its detection; None for a missed switch. In a
    stream without segment names every detected boundary is a false alarm.
    """

    detected: list[DetectedBoundary] = Field(default_factory=list)
    delays: list[NonNegativeInt | None] = Field(default_factory=list)
    false_alarms: NonNegativeInt = 0
    regimes: list[AssignedRegime] = Field(default_factory=list)
    returns: NonNegativeInt = 0
    """Visits to a segment that was visited before."""
    recognised: NonNegativeInt = 0
    """Returns that were assigned the segment's earlier regime."""
    mistaken: NonNegativeInt = 0
    """First visits to a segment that were assigned an earlier regime."""

    @property
    def missed(self) -> int:
        """Switches that were not detected before the next one, or before the end."""
        return sum(delay is None for delay in self.delays)

    @classmethod
    def of(cls, history: History | HistorySnapshot) -> Self:
        """Score what ``history`` holds."""
        detected = [
            DetectedBoundary(samples=b.samples, signal=b.signal, late=b.late) for b in history.boundaries
        ]
        verdict = match_detected([switch.samples for switch in history.switches[1:]], detected)
        regimes = match_regimes(
            [(switch.samples, switch.segment) for switch in history.switches],
            [(regime.samples, regime.regime) for regime in history.regimes],
        )
        return cls(
            detected=detected,
            delays=list(verdict.delays),
            false_alarms=verdict.false_alarms,
            regimes=[AssignedRegime(samples=r.samples, regime=r.regime) for r in history.regimes],
            returns=regimes.returns,
            recognised=regimes.recognised,
            mistaken=regimes.mistaken,
        )


class BoundaryScoring:
    """A subscriber that emits `BoundariesScored` after each event that changes it.

    It emits nothing for a stream without segment names, which has no ground truth.
    """

    def __init__(self, history: History, emit: Emit) -> None:
        self._history, self._emit = history, emit

    def __call__(self, event: Event) -> None:
        """Handle one event."""
        if (
            isinstance(event, SegmentStarted | SegmentWithdrawn | BoundaryDetected | RegimeAssigned | Resumed)
            and self._history.segments
        ):
            self._emit(self._scored())

    def _scored(self) -> BoundariesScored:
        boundaries = Boundaries.of(self._history)
        found = [delay for delay in boundaries.delays if delay is not None]
        awaited = boundaries.delays[-1:] == [None]
        return BoundariesScored(
            found=len(found),
            missed=boundaries.missed - awaited,
            awaited=awaited,
            false_alarms=boundaries.false_alarms,
            delay=found[-1] if found else None,
            returns=boundaries.returns,
            recognised=boundaries.recognised,
            mistaken=boundaries.mistaken,
        )
