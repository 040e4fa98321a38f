"""Recognises the regime of the images after a boundary among earlier ones."""

from dataclasses import dataclass, field
from typing import Final

from lethe.drift.reference import FeatureReference

__all__ = ["ASSIGNED_AFTER", "MOST_REGIMES", "Regimes"]

ASSIGNED_AFTER: Final = 256
"""Samples after a boundary until a regime is assigned."""
MOST_REGIMES: Final = 64
"""Maximum of stored regimes; a later one is new each time it returns."""

_STRANGE: Final = 5.0  # samples of the same regime stay below 2.5, those of others start at 17


@dataclass(slots=True)
class Regimes:
    """The references of the regimes so far, by number; 1 is the first.

    A regime is recognised by its images alone: labels that change their meaning make a boundary, but not a
    new regime. The fields are the JSON.
    """

    met: int = 0
    """Highest number so far."""
    references: dict[int, FeatureReference] = field(default_factory=dict)

    def recognise(self, fresh: FeatureReference) -> int:
        """Return the number of the regime nearest to ``fresh``, the reference since the boundary.

        A new number is returned if the distance to every regime (`FeatureReference.surprise`) is too large.
        """
        surprises = {number: known.surprise(fresh) for number, known in self.references.items()}
        nearest = min(surprises, key=surprises.__getitem__, default=None)
        if nearest is not None and surprises[nearest] <= _STRANGE:
            return nearest
        self.met += 1
        return self.met

    def left(self, regime: int, usual: FeatureReference) -> None:
        """Store the reference ``usual`` of ``regime`` at its end, or add it to the stored one."""
        if regime in self.references:
            self.references[regime].add(usual)
        elif len(self.references) < MOST_REGIMES:
            self.references[regime] = usual
