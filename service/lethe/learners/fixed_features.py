"""What the evaluator may know of a learner on fixed features: it need not compute them twice.

Shapes: B batch, C channels, H height, W width, D features, K classes.
"""

from abc import ABC, abstractmethod

from torch import Tensor

__all__ = ["FixedFeatures"]


class FixedFeatures(ABC):
    """A learner whose features of an image never change: ``predict_proba(x)`` is that of ``features(x)``."""

    @abstractmethod
    def features(self, x_BCHW: Tensor) -> Tensor:
        """Return features of shape [B, D] on the learner's device, for uint8 images."""

    @abstractmethod
    def predict_features(self, features_BD: Tensor) -> Tensor:
        """Return what `Learner.predict_proba` returns for the images that have these features, [B, K]."""
