"""A learner as it was at one moment, for those who ask while it goes on learning."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from service.learners.products import beside_learning

__all__ = ["Predictor"]


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
