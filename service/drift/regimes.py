"""Regimes that come back: which earlier one the images after a boundary are like."""

from dataclasses import dataclass, field
from typing import Final

from service.drift.features import FeatureSums
from service.drift.reference import FeatureReference

__all__ = ["MOST_REGIMES", "TOLD_AFTER", "Regimes"]

TOLD_AFTER: Final = 256
"""Samples after a boundary until it is told which regime this is."""
MOST_REGIMES: Final = 64
"""Regimes remembered; a later one is new each time."""

_STRANGE: Final = 5.0  # a regime's own samples stay below 2.5, those of other subjects begin at 17


@dataclass(slots=True)
class Regimes:
    """What is usual in each regime so far, by its number: 1 is the first.

    A regime is known by its images alone, as sums of a few features: labels that take on another
    meaning make a boundary, but no other regime. Its fields are its JSON.
    """

    met: int = 0
    """The highest number so far."""
    references: dict[int, FeatureReference] = field(default_factory=dict)

    def recognise(self, fresh: FeatureReference) -> int:
        """Return the number of the regime that ``fresh``, what is usual since the boundary, is like.

        That is the one whose features the mean of the fresh ones surprises least, if it does so
        little enough (`FeatureReference.surprise`); a new number otherwise.
        """
        sums = FeatureSums(fresh.count, tuple(fresh.sums), tuple(fresh.squares))
        surprises = {number: known.surprise(sums) for number, known in self.references.items()}
        nearest = min(surprises, key=surprises.__getitem__, default=None)
        if nearest is not None and surprises[nearest] <= _STRANGE:
            return nearest
        self.met += 1
        return self.met

    def left(self, regime: int, usual: FeatureReference) -> None:
        """Remember what was usual in ``regime`` until it ended; it may have been so before."""
        if regime in self.references:
            self.references[regime].merge(usual)
        elif len(self.references) < MOST_REGIMES:
            self.references[regime] = usual
