"""What the analytic learners keep of their samples: exact sums over features and labels.

Shapes: B batch, D features, K classes.
"""

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from lethe.errors import NeverLearned
from lethe.learners.analytic.gram import Gram
from lethe.learners.analytic.solution import ridge_solution
from lethe.learners.capabilities import Pool
from lethe.learners.features.compression import LARGEST
from lethe.learners.integer_products import product

__all__ = ["Sums", "class_counts"]


class Sums:
    """B = Σ φyᵀ, with one-hot y, and A = Σ φφᵀ: whole numbers, which samples can be subtracted from again.

    The last feature is constant, so that B has the number of samples of each class.
    """

    def __init__(self, features: int, classes: int, device: torch.device, *, second: bool = True) -> None:
        """``second`` is False for a learner that needs no A."""
        self.B_DK = torch.zeros(features, classes, dtype=torch.int64, device=device)
        self.gram = Gram(features, device) if second else None
        self.mark = object()
        """A new object whenever the sums change: `State.marks`."""

    @property
    def class_counts(self) -> Tensor:
        """Number of samples of each class, int64 of shape [K]."""
        return class_counts(self.B_DK)

    @property
    def samples(self) -> int:
        """Number of samples in the sums."""
        return int(self.class_counts.sum())

    def add(self, features_BD: Tensor, y_B: Tensor) -> None:
        """Add samples, int8 of shape [B, D] and int64 of shape [B]."""
        self.B_DK.add_(self._by_class(features_BD, y_B))
        if self.gram is not None:
            self.gram.add(features_BD)
        self.mark = object()

    def subtract(self, features_BD: Tensor, y_B: Tensor) -> None:
        """Subtract samples that were added before."""
        self.B_DK.sub_(self._by_class(features_BD, y_B))
        if self.gram is not None:
            self.gram.subtract(features_BD)
        self.mark = object()

    def require(self, asked_K: Tensor) -> None:
        """Raise NeverLearned if fewer samples of a class were learned than are asked for, int64 of [K]."""
        learned_K = self.class_counts.cpu()
        for label in (asked_K > learned_K).nonzero().flatten().tolist():
            raise NeverLearned(
                f"{int(asked_K[label])} samples of class {label} are to be forgotten, "
                f"{int(learned_K[label])} were learned"
            )

    def merge(self, other: Self, sign: int = 1) -> None:
        """Add the sums of other samples, or subtract them if ``sign`` is −1.

        Raises NeverLearned, before anything changes, if there are fewer samples of a class than are to be
        subtracted.
        """
        if sign < 0:
            self.require(other.class_counts.cpu())
        self.B_DK.add_(other.B_DK, alpha=sign)
        if self.gram is not None and other.gram is not None:
            self.gram.merge(other.gram, sign)
        self.mark = object()

    def pool(self, pool: Pool) -> None:
        """Move the sums of all ranks to the leading one's; the others begin anew."""
        pool.all_reduce(self.B_DK)
        if self.gram is not None:
            self.gram.pool(pool)
        if not pool.leads:
            self.B_DK.zero_()
            if self.gram is not None:
                self.gram.clear()
        self.mark = object()

    def tensors(self) -> dict[str, Tensor]:
        """Return the sums; equal sums are equal bytes, whatever the road to them."""
        if self.gram is None:
            return {"B": self.B_DK}
        self.gram.fold()
        return {"A": self.gram.low, "A_high": self.gram.high, "B": self.B_DK}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy sums that `tensors` returned.

        Raises ValueError for the float sums of a version before 0.2.
        """
        if "B" not in tensors or tensors["B"].dtype != torch.int64:
            raise ValueError("its sums are floats, of a version before 0.2: start with --fresh")
        self.B_DK.copy_(tensors["B"])
        if self.gram is not None:
            self.gram.load(tensors["A"], tensors["A_high"], self.samples)
        self.mark = object()

    def upper(self) -> Tensor:
        """Return A in float64, of shape [D, D]; entries below the diagonal are undefined."""
        return self._gram.upper()

    def add_to(self, total_DD: Tensor, weight: float) -> None:
        """Add ``weight`` A to ``total_DD``, float64; entries below the diagonal are undefined then."""
        self._gram.add_to(total_DD, weight)

    def ridge(self, penalty_D: Tensor) -> Tensor:
        """Return W = (A + diag(penalty))⁻¹ B, float32 of shape [D, K]."""
        return ridge_solution(self.upper(), self.B_DK, penalty_D)

    @property
    def _gram(self) -> Gram:
        if self.gram is None:
            raise ValueError("these sums have no A")
        return self.gram

    def _by_class(self, features_BD: Tensor, y_B: Tensor) -> Tensor:
        onehot_BK = nn.functional.one_hot(y_B, self.B_DK.shape[1]).to(features_BD)
        return product(features_BD, onehot_BK)


def class_counts(B_DK: Tensor) -> Tensor:
    """Return the number of samples of each class in B, int64 of shape [K]: the last feature is constant."""
    return B_DK[-1].div(LARGEST, rounding_mode="floor")
