"""Assigns samples to regimes by their thumbnails alone; opens a new regime when none fits.

Shapes: B batch, S numbers of a thumbnail.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from lethe.learners.analytic.thumbnails import ThumbnailStatistics

__all__ = ["MIN_CHUNK", "MIN_TO_OPEN", "NEW", "SETTLED", "assign", "assign_in_chunks"]

NEW: Final = -1
"""Stands for a regime that is yet to be opened."""
SETTLED: Final = 512
"""Samples after which the statistics of a regime are reliable."""
MIN_TO_OPEN: Final = 16
"""Samples of one batch that must fit no regime to open a new one; fewer are outliers."""
MIN_CHUNK: Final = 64
"""Successive samples that can be assigned by themselves; smaller batches are averaged with those before, by
`lethe.learners.analytic.regime_tracker`."""

_SHARE_TO_OPEN: Final = 1 / 8
_TRIMS: Final = (torch.inf, 6.0, 4.0, 3.0, 2.0)  # squared distances: of a regime's own, 5 % are above 2


def assign(signatures: Sequence[ThumbnailStatistics], z_BS: Tensor, room: bool) -> Tensor:
    """Return the regime of each thumbnail, int64 of shape [B]; `NEW` where one is to be opened.

    A batch whose mean fits a settled regime belongs to it as a whole. Any other batch is a mixture or new:
    each settled regime takes the samples that are likeliest in it, less the most distant ones until the mean
    of the others fits. The remaining samples belong to the regime that is not settled yet, if there is one
    (there is never more than one); else to a new regime, if they are many and there is ``room``; else to the
    likeliest.
    """
    settled = [index for index, signature in enumerate(signatures) if signature.count >= SETTLED]
    unsettled = [index for index in range(len(signatures)) if index not in settled]
    if not settled:
        return torch.full((len(z_BS),), unsettled[0] if unsettled else NEW)
    t_squared = [signatures[index].t_squared(z_BS) for index in settled]
    if min(t_squared) <= signatures[settled[0]].t_squared_limit:
        return torch.full((len(z_BS),), settled[t_squared.index(min(t_squared))])
    likeliest_B = torch.stack([signatures[index].deviances(z_BS) for index in settled]).argmin(0)
    likeliest_B = torch.tensor(settled)[likeliest_B]
    left_B = torch.ones(len(z_BS), dtype=torch.bool)
    for index in settled:
        left_B &= ~_own(signatures[index], z_BS, likeliest_B == index)
    if unsettled:
        return torch.where(left_B, unsettled[0], likeliest_B)
    left = int(left_B.sum())
    if room and left >= max(MIN_TO_OPEN, _SHARE_TO_OPEN * len(z_BS)):
        return torch.where(left_B, NEW, likeliest_B)
    return likeliest_B


def assign_in_chunks(signatures: Sequence[ThumbnailStatistics], z_BS: Tensor, room: bool) -> Tensor:
    """Return `assign` of each 64 to 127 successive samples, which limits the mixture at a switch of regimes.

    B is at least 64.
    """
    return torch.cat([assign(signatures, z_PS, room) for z_PS in z_BS.tensor_split(len(z_BS) // MIN_CHUNK)])


def _own(signature: ThumbnailStatistics, z_BS: Tensor, candidates_B: Tensor) -> Tensor:
    """Return which of the candidates, together, fit the regime."""
    distances_B = signature.distances(z_BS)
    for trim in _TRIMS:
        own_B = candidates_B & (distances_B <= trim)
        if own_B.any() and signature.t_squared(z_BS[own_B]) <= signature.t_squared_limit:
            return own_B
    return torch.zeros_like(candidates_B)
