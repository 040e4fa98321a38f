"""A learner as it was at one moment, for those who ask while it goes on learning."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from service.learners.products import beside_learning

__all__ = ["Predictor", "in_parts"]

_ROWS: Final = 256


@dataclass(frozen=True, slots=True)
class Predictor:
    """Predicts in another thread than the learner's, and shares nothing with it that changes."""

    answer: Callable[[Tensor], Tensor]
    """As `Learner.predict`; for one thread at a time."""
    behind: int = 0
    """Samples that were learned, and that these predictions know nothing of yet."""

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return class probabilities, float32 of shape [B, K] on the CPU, for uint8 images."""
        with beside_learning():
            return self.answer(x_BCHW)


def in_parts(answer: Callable[[Tensor], Tensor], x_BCHW: Tensor) -> Tensor:
    """Return ``answer`` of all images, computed some at a time: whatever their number, memory is bounded."""
    parts = [answer(x) for x in torch.split(x_BCHW, _ROWS)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
