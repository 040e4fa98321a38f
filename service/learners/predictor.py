"""A learner as it was at one moment, for those who ask while it goes on learning."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Predictor"]


@dataclass(frozen=True, slots=True)
class Predictor:
    """Predicts in another thread than the learner's, and shares nothing with it that changes."""

    predict: Callable[[Tensor], Tensor]
    """As `Learner.predict`; for one thread at a time."""
    behind: int = 0
    """Samples that were learned, and that these predictions know nothing of yet."""
