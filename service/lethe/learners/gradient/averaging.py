"""The gradients of a step: those of one learner, or their average over the ranks that learn together."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lethe.learners.capabilities import Pool

__all__ = ["Alone", "Apart", "Together"]


class Alone:
    """A learner without other ranks: every average is its own number."""

    rank = 0
    """The number of this rank."""

    def total(self, samples: int) -> int:
        """Return the number of samples that all ranks learn in this step, ``samples`` of them here."""
        return samples

    def average(self, tensors: Sequence[Tensor], share: float) -> None:
        """Replace float32 ``tensors``, on every rank, by their average, in which this rank's have ``share``.

        The shares of all ranks add up to 1.
        """

    def average_gradients(
        self, parameters: Sequence[nn.Parameter], share: float, *numbers: float
    ) -> Sequence[float]:
        """Average the gradients of ``parameters`` as `average` does; return the averages of ``numbers``.

        A parameter has no gradient afterwards if it had none on any rank with a share.
        """
        del parameters, share
        return numbers


class Apart(Alone):
    """One of several ranks that take steps of their own, until their weights are averaged."""

    def __init__(self, rank: int) -> None:
        self.rank = rank


class Together(Alone):
    """One of several ranks that take the same steps. All call the same methods in the same order."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self.rank = pool, pool.rank

    def total(self, samples: int) -> int:
        """Return the number of samples that all ranks learn in this step, ``samples`` of them here."""
        counted = torch.tensor([samples])
        self._pool.all_reduce(counted)
        return int(counted)

    def average(self, tensors: Sequence[Tensor], share: float) -> None:
        """Replace ``tensors``, on every rank, by their average, in which this rank's have ``share``."""
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).mul_(share)
        self._pool.all_reduce(flat)  # one message, whatever the number of tensors
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))

    def average_gradients(
        self, parameters: Sequence[nn.Parameter], share: float, *numbers: float
    ) -> Sequence[float]:
        """Average the gradients of ``parameters`` as `average` does; return the averages of ``numbers``."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        has = [float(p.grad is not None) for p in parameters]
        rest = torch.tensor([*numbers, *has])
        self.average([*gradients, rest], share)
        averaged, anywhere = rest[: len(numbers)].tolist(), rest[len(numbers) :].tolist()
        for parameter, gradient, there in zip(parameters, gradients, anywhere, strict=True):
            parameter.grad = gradient if there else None
        return averaged
