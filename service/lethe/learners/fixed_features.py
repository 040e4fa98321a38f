"""What the evaluator may know of a learner on fixed features: it need not compute them twice.

Shapes: B batch, C channels, H height, W width, D features, K classes.
"""

from abc import ABC, abstractmethod

from torch import Tensor

__all__ = ["FixedFeatures"]


class FixedFeatures(ABC):
    """A learner whose features of a sample never change: ``predict_proba(x)`` is that of ``features(x)``.

    They may change up to the first batch, of which they can take a scale: `features_settled`.
    """

    @property
    def features_settled(self) -> bool:
        """Whether `features` is final."""
        return True

    @abstractmethod
    def features(self, x_BCHW: Tensor) -> Tensor:
        """Return features of shape [B, D] on the learner's device, for samples as in `Learner.learn`."""

    @abstractmethod
    def predict_features(self, features_BD: Tensor) -> Tensor:
        """Return what `Learner.predict_proba` returns for the samples that have these features, [B, K]."""
