"""A snapshot of a learner that predicts in another thread while the learner learns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

__all__ = ["Predictor", "in_chunks", "restricted"]

_ROWS: Final = 256


@dataclass(frozen=True, slots=True)
class Predictor:
    """Predicts in another thread than the learner's and shares no mutable state with it."""

    answer: Callable[[Tensor], Tensor]
    """Computes `Learner.predict_proba`; for one thread at a time."""
    behind: int = 0
    """Number of samples that were learned after the solution that these predictions come from."""

    def predict_proba(self, x_BCHW: Tensor) -> Tensor:
        """Return class probabilities, float32 of shape [B, K] on the CPU, for uint8 images."""
        return self.answer(x_BCHW)


def in_chunks(answer: Callable[[Tensor], Tensor], x_BCHW: Tensor) -> Tensor:
    """Return ``answer`` of all images, computed in chunks of fixed size to bound memory."""
    parts = [answer(x) for x in torch.split(x_BCHW, _ROWS)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def restricted(p_BK: Tensor, known: int) -> Tensor:
    """Return the probabilities of the first ``known`` classes, which then sum to 1.

    If all of a row's are 0, or none is known, they are equal.
    """
    own_BK = p_BK[:, :known]
    sum_B1 = own_BK.sum(dim=1, keepdim=True)
    return torch.where(sum_B1 > 0, own_BK / sum_B1, torch.full_like(own_BK, 1 / max(known, 1)))
