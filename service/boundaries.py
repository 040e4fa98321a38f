"""Boundaries and regimes, as they were found and as the records' headers have them."""

from typing import Self

from pydantic import Field, NonNegativeInt, PositiveInt

from service.document import Part
from service.drift.verdict import judge, judge_regimes
from service.evaluation.history import History

__all__ = ["Boundaries", "DetectedBoundary", "ToldRegime"]


class DetectedBoundary(Part):
    """``signal`` told of another subject after ``samples`` learned samples."""

    samples: NonNegativeInt
    signal: str


class ToldRegime(Part):
    """After ``samples`` learned samples, ``regime`` was told to go on: an earlier number has come back."""

    samples: NonNegativeInt
    regime: PositiveInt


class Boundaries(Part):
    """The boundaries that were detected, and how well: against the segment headers, which nobody sees.

    ``delays`` has, for each switch, the samples from it to its detection; None if it was missed. In a
    stream that names no segments, whatever was detected counts as false.
    """

    detected: list[DetectedBoundary] = Field(default_factory=list)
    delays: list[NonNegativeInt | None] = Field(default_factory=list)
    false_alarms: NonNegativeInt = 0
    regimes: list[ToldRegime] = Field(default_factory=list)
    returns: NonNegativeInt = 0
    """Visits to a segment that was visited before."""
    recognised: NonNegativeInt = 0
    """Of them, those whose regime was told to be the one of before."""
    mistaken: NonNegativeInt = 0
    """First visits to a segment that were told to be a regime of before."""

    @property
    def missed(self) -> int:
        """Switches that were not detected before the next one, or the end."""
        return sum(delay is None for delay in self.delays)

    @classmethod
    def of(cls, history: History) -> Self:
        """Return what the history knows of both."""
        found = [boundary.samples for boundary in history.boundaries]
        verdict = judge([switch.samples for switch in history.switches[1:]], found)
        detected = [DetectedBoundary(samples=b.samples, signal=b.signal) for b in history.boundaries]
        regimes = judge_regimes(
            [(switch.samples, switch.segment) for switch in history.switches],
            [(told.samples, told.regime) for told in history.regimes],
        )
        return cls(
            detected=detected,
            delays=list(verdict.delays),
            false_alarms=verdict.false_alarms,
            regimes=[ToldRegime(samples=told.samples, regime=told.regime) for told in history.regimes],
            returns=regimes.returns,
            recognised=regimes.recognised,
            mistaken=regimes.mistaken,
        )
