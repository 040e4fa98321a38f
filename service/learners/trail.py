"""Which regime a trickle of samples is in: batches that say too little alone are judged with those before.

Shapes: B batch, S thumbnail pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from torch import Tensor

from service.learners.regimes import NEW, SETTLED, STRANGE
from service.learners.signature import Signature

__all__ = ["Trail"]

_SHARE: Final = 1 / 16
"""Of a sample in the fading mean."""
_WEIGHT: Final = (2 - _SHARE) / _SHARE
"""The mean is as uncertain as one over so many samples."""
_LOST: Final = 48
"""Samples, like no regime, that open a new one: 19 parts of 20 of the mean are theirs."""


@dataclass(frozen=True, slots=True)
class Trail:
    """Follows batches of few samples by a fading mean of their thumbnails, and never changes itself.

    As long as the mean is like that of the regime at hand, or of another that is settled, samples belong to
    it as a whole; after `_LOST` samples of which it was like none, to the regime that is not settled
    yet or to a new one. So a switch is noticed some tens of samples late, and samples that alternate
    between two regimes open a third. The mean begins at that of the regime at hand: it is never the
    thumbnail of one sample.
    """

    regime: int = 0
    """The one at hand; `NEW` where the batch opens one."""
    mean_S: Tensor | None = None
    """The fading mean; None where the batch before was large enough to be judged by itself."""
    lost: int = 0
    """Samples since the mean was last like that of a regime."""

    def after(self, signatures: Sequence[Signature], z_BS: Tensor, room: bool) -> Self:
        """Return where the trail leads with another batch: to a new regime only if there is ``room``."""
        settled = [index for index, signature in enumerate(signatures) if signature.count >= SETTLED]
        if not settled:
            return self
        mean_S = signatures[self.regime].mean if self.mean_S is None else self.mean_S
        for z_S in z_BS:
            mean_S = mean_S + _SHARE * (z_S - mean_S)
        moved = replace(self, mean_S=mean_S)
        strangeness = {index: signatures[index].strangeness_of(mean_S, _WEIGHT) for index in settled}
        if strangeness.get(self.regime, STRANGE + 1) <= STRANGE:
            return replace(moved, lost=0)
        likeliest = min(strangeness, key=strangeness.__getitem__)
        if strangeness[likeliest] <= STRANGE:
            return replace(moved, regime=likeliest, lost=0)
        if self.regime not in settled:
            return moved  # it is being learned
        lost = self.lost + len(z_BS)
        if lost < _LOST:
            return replace(moved, lost=lost)
        unsettled = [index for index in range(len(signatures)) if index not in settled]
        elsewhere = unsettled[0] if unsettled else NEW if room else likeliest
        return replace(moved, regime=elsewhere, lost=0)
