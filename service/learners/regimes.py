"""Which regime a batch belongs to, told by its images alone; a new one is opened when none fits.

Shapes: B batch, S thumbnail pixels.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from service.learners.signature import Signature

__all__ = ["LEAST_TO_OPEN", "NEW", "SETTLED", "STRANGE", "assign"]

NEW: Final = -1
"""The regime of samples that fit none."""
SETTLED: Final = 512
"""Samples after which a regime's signature is reliable."""
STRANGE: Final = 3.0
"""`Signature.strangeness` of a batch that is not a regime's: its own stay below 2, those of other subjects
begin above."""
LEAST_TO_OPEN: Final = 16
"""Samples of no regime, in one batch, that open a new one: fewer are outliers. Smaller batches are judged
together: `service.learners.trail`."""

_SHARE_TO_OPEN: Final = 1 / 8
_TRIMS: Final = (torch.inf, 6.0, 4.0, 3.0, 2.0)  # squared distances: of a regime's own, 5 % are above 2


def assign(signatures: Sequence[Signature], z_BS: Tensor, room: bool) -> Tensor:
    """Return the regime of each thumbnail, int64 of shape [B]; `NEW` where one is to be opened.

    A batch whose mean is like that of a settled regime belongs to it as a whole. Any other batch is
    a mixture, or new: each settled regime takes the samples that are likeliest in it, without the
    most unlikely of them until the mean of the others fits. What is left belongs to the regime that
    is not settled yet, if there is one (there is never more than one); else to a new regime, if that
    is many samples and there is ``room``; else to the likeliest.
    """
    settled = [index for index, signature in enumerate(signatures) if signature.count >= SETTLED]
    unsettled = [index for index in range(len(signatures)) if index not in settled]
    if not settled:
        return torch.full((len(z_BS),), unsettled[0] if unsettled else NEW)
    strangeness = [signatures[index].strangeness(z_BS) for index in settled]
    if min(strangeness) <= STRANGE:
        return torch.full((len(z_BS),), settled[strangeness.index(min(strangeness))])
    likeliest_B = torch.stack([signatures[index].surprises(z_BS) for index in settled]).argmin(0)
    likeliest_B = torch.tensor(settled)[likeliest_B]
    left_B = torch.ones(len(z_BS), dtype=torch.bool)
    for index in settled:
        left_B &= ~_own(signatures[index], z_BS, likeliest_B == index)
    if unsettled:
        return torch.where(left_B, unsettled[0], likeliest_B)
    left = int(left_B.sum())
    if room and left >= max(LEAST_TO_OPEN, _SHARE_TO_OPEN * len(z_BS)):
        return torch.where(left_B, NEW, likeliest_B)
    return likeliest_B


def _own(signature: Signature, z_BS: Tensor, candidates_B: Tensor) -> Tensor:
    """Return which of the candidates, together, look like the regime's own."""
    distances_B = signature.distances(z_BS)
    for trim in _TRIMS:
        own_B = candidates_B & (distances_B <= trim)
        if own_B.any() and signature.strangeness(z_BS[own_B]) <= STRANGE:
            return own_B
    return torch.zeros_like(candidates_B)
