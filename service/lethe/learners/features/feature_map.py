"""What the fixed features of the analytic learners are: whole numbers, computed from one sample alone.

Shapes: B batch, D features.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

__all__ = ["FeatureMap"]


class FeatureMap(ABC):
    """Maps samples to whole numbers up to 127; the last one is constant, 127.

    A map may take a statistic of the first batch, on which all features depend from then on: `settle`.
    """

    other: ClassVar[str] = (
        "learner.options.location and spread: the states estimated other scales of their vectors, each from "
        "its first batch, so their sums do not mean the same; give both options to every service"
    )
    """Why the sums of two maps with different `tensors` do not mean the same."""
    count: int
    """D."""
    scales: Tensor
    """The real numbers that features of 1 stand for, float64 of shape [D]."""

    @abstractmethod
    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Return features, int8 of shape [B, D], on the device."""

    @abstractmethod
    def module(self) -> nn.Module:
        """Return the same features, float32 and on the CPU, as a torch module that can be exported."""

    @property
    def settled(self) -> bool:
        """Whether the features of a sample are final."""
        return True

    @property
    def shared(self) -> bool:
        """Whether learners with the same layout, seed and options have the same features."""
        return True

    def settle(self, x_BCHW: Tensor) -> None:
        """Take what the features depend on from these samples, unless it is known."""
        del x_BCHW  # most depend on no sample

    def tensors(self) -> Mapping[str, Tensor]:
        """Return what was taken from samples, by name."""
        return {}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` of another map returned; others among them are left alone."""
        del tensors
