"""What others may know of a learner on fixed features: when they compute these, and that once is enough.

Shapes: B batch, C channels, H height, W width, D features, K classes.
"""

from abc import ABC, abstractmethod

from torch import Tensor

from lethe.learners.base import Learned

__all__ = ["FixedFeatures", "LearnsFromFeatures"]


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


class LearnsFromFeatures(FixedFeatures):
    """A learner that can learn a batch whose features are computed already, with settled features."""

    @abstractmethod
    def learn_features(self, features_BD: Tensor, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        """Do what ``learn(x_BCHW, y_B)`` does; ``features_BD`` are `features` of the same batch."""
