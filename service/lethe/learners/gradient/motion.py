"""Measures how the weights move: some vectors of the size of the network, and no sample, are kept."""

from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor, nn

from lethe.learners.motion import Motion

__all__ = ["EVERY", "HORIZON", "MotionTracker"]

EVERY: Final = 16
"""Batches between two looks at the weights. A look takes about 15 % of the time of the small CNN's step, so
that learning is slowed down by 1 %."""
HORIZON: Final = 6
"""Looks over which gradients are averaged, exponentially."""


class MotionTracker:
    """Measures ``parameters``: call `look` once their gradients exist, before each step.

    Nothing of it is part of a checkpoint: after a restart the first numbers are missing, and what is learned
    does not depend on it.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters: list[Tensor] = list(parameters)
        self._batches = self._looks = 0
        self._place: list[Tensor] = []
        self._way: list[Tensor] = []
        self._mean: list[Tensor] = []
        self.latest: Motion | None = None
        """What was measured last; None before the first batch."""

    @torch.no_grad()
    def look(self) -> None:
        """Measure the gradients and the weights before a batch's step, in every `EVERY`-th batch."""
        if self._batches % EVERY == 0:
            self.latest = self._measured()
        self._batches += 1

    def _measured(self) -> Motion:
        gradients = [
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for parameter in self._parameters
        ]
        length = _length(gradients)
        self._looks += 1
        if not self._place:
            self._place = [parameter.detach().clone() for parameter in self._parameters]
            self._mean = [gradient.clone() for gradient in gradients]
            return Motion(length)
        way = [now - before for now, before in zip(self._parameters, self._place, strict=True)]
        step = _length(way)
        motion = Motion(length, step, _cosine(way, step, self._way), _cosine(gradients, length, self._mean))
        self._way = way
        torch._foreach_copy_(self._place, self._parameters)
        torch._foreach_lerp_(self._mean, gradients, max(1 / self._looks, 1 / HORIZON))
        return motion


def _length(parts: list[Tensor]) -> float:
    return float(torch.stack(torch._foreach_norm(parts)).norm())


def _cosine(parts: list[Tensor], length: float, others: list[Tensor]) -> float | None:
    if not length or not others or not (other := _length(others)):
        return None
    products = [(one * another).sum() for one, another in zip(parts, others, strict=True)]
    return float(torch.stack(products).sum()) / (length * other)
