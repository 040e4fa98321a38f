"""Assigns small batches to regimes by a fading mean over successive batches.

Shapes: B batch, S numbers of a thumbnail.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from torch import Tensor

from lethe.learners.analytic.regimes import NEW, SETTLED
from lethe.learners.analytic.thumbnails import ThumbnailStatistics

__all__ = ["RegimeTracker"]

_SHARE: Final = 1 / 32
"""Weight of a sample in the fading mean."""
_WEIGHT: Final = (2 - _SHARE) / _SHARE
"""Number of samples whose plain mean is as uncertain as the fading one."""
_LOST: Final = 96
"""Samples that fit no regime after which a new one is opened: they make up 19/20 of the mean."""


@dataclass(frozen=True, slots=True)
class RegimeTracker:
    """Tracks the regime of small batches by a fading mean of their thumbnails; immutable.

    While the mean fits the current regime, or another settled one, whole batches belong to it. After `_LOST`
    samples in which it fits none, they belong to the regime that is not settled yet or to a new one. So a
    switch is detected up to about a hundred samples late, and samples that alternate between two regimes open
    a third. The mean starts at that of the current regime, so it is never the thumbnail of a single sample.
    """

    regime: int = 0
    """The current regime; `NEW` where the batch opens one."""
    mean_S: Tensor | None = None
    """The fading mean; None where the previous batch was large enough to be assigned by itself."""
    lost: int = 0
    """Samples since the mean last fitted a regime."""

    def after(self, signatures: Sequence[ThumbnailStatistics], z_BS: Tensor, room: bool) -> Self:
        """Return the tracker after another batch; it opens a new regime only if there is ``room``."""
        settled = [index for index, signature in enumerate(signatures) if signature.count >= SETTLED]
        if not settled:
            return self
        limit = signatures[settled[0]].t_squared_limit
        mean_S = signatures[self.regime].mean if self.mean_S is None else self.mean_S
        for z_S in z_BS:
            mean_S = mean_S + _SHARE * (z_S - mean_S)
        moved = replace(self, mean_S=mean_S)
        t_squared = {index: signatures[index].t_squared_of_mean(mean_S, _WEIGHT) for index in settled}
        if t_squared.get(self.regime, limit + 1) <= limit:
            return replace(moved, lost=0)
        likeliest = min(t_squared, key=t_squared.__getitem__)
        if t_squared[likeliest] <= limit:
            return replace(moved, regime=likeliest, lost=0)
        if self.regime not in settled:
            return moved  # its statistics are not reliable yet
        lost = self.lost + len(z_BS)
        if lost < _LOST:
            return replace(moved, lost=lost)
        unsettled = [index for index in range(len(signatures)) if index not in settled]
        elsewhere = unsettled[0] if unsettled else NEW if room else likeliest
        return replace(moved, regime=elsewhere, lost=0)
