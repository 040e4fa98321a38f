"""The sum A = Σ φφᵀ over samples, and the ridge solution of which it is one half.

Shapes: B batch, D features, K classes.
"""

from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

from service.learners.products import unit
from service.learners.sharing import share

__all__ = ["Gram"]

_FOLD_EVERY: Final = 4096  # samples: fewer round less, more cost less
_IN_CACHE: Final = 1 << 17  # entries of two sums, and of what is between them, that a core's cache holds
_PANEL: Final = 1024  # rows: fewer waste less below the diagonal, more multiply faster
_PIECE: Final = 3072  # columns of a panel that one thread multiplies


class Gram:
    """A symmetric matrix that grows by φφᵀ, kept as the panels of its upper triangle.

    Panel p holds the rows of A from 1,024 p on, from the diagonal rightwards; what is left of the
    diagonal in its first columns means nothing. The sum is that of two float32 numbers: ``recent``
    takes the batches, and is folded into ``folded`` every 4,096 samples, where what the fold rounds
    off stays in ``recent`` (Kahan 1965). One float32 number would lose, over 100,000 samples, about
    as much as the penalty of the ridge adds.
    """

    def __init__(self, features: int, device: torch.device) -> None:
        self._bounds = [*range(0, features, _PANEL), features]
        sizes = [(end - start) * (features - start) for start, end in pairwise(self._bounds)]
        self.folded = torch.zeros(sum(sizes), device=device)
        """All panels, row by row, one after the other."""
        self.recent = torch.zeros_like(self.folded)
        self.unfolded = 0
        """Samples since the last fold."""
        self._sizes = sizes

    def add(self, features_BD: Tensor) -> None:
        """Add φᵀφ for φ of shape [B, D] on the device, rounded as `products.rounded` does."""
        self._add(features_BD, features_BD)
        self.unfolded += len(features_BD)
        if self.unfolded >= _FOLD_EVERY:
            self._fold()

    def subtract(self, features_BD: Tensor) -> None:
        """Take φᵀφ off again, for φ that was added; what is left differs by the rounding of both."""
        self._add(-features_BD, features_BD)
        self._fold()

    def _add(self, left_BD: Tensor, right_BD: Tensor) -> None:
        pieces = [
            (row, row + first, panel[:, first : first + _PIECE])
            for row, panel in zip(self._bounds, self._panels(self.recent), strict=False)
            for first in range(0, panel.shape[1], _PIECE)
        ]

        def add(piece: tuple[int, int, Tensor]) -> None:
            row, column, sum_RE = piece
            rows, columns = sum_RE.shape
            sum_RE.addmm_(left_BD[:, row : row + rows].T, right_BD[:, column : column + columns])

        with unit():
            share(add, pieces)

    def upper(self) -> Tensor:
        """Return A in float64, of shape [D, D]; what is below the diagonal means nothing."""
        features = self._bounds[-1]
        upper_DD = torch.empty(features, features, dtype=torch.float64, device=self.recent.device)
        panels = zip(self._bounds, self._panels(self.folded), self._panels(self.recent), strict=False)
        for start, folded, recent in panels:
            upper_DD[start : start + len(folded), start:].copy_(folded).add_(recent)
        return upper_DD

    def solve(self, B_DK: Tensor, penalty: float) -> Tensor:
        """Return W = (A + penalty · I)⁻¹ B, float32 of shape [D, K], by a Cholesky factor in float64.

        Over a long stream, rounding can outweigh a small penalty and leave a matrix that is not
        positive definite: the penalty is then raised tenfold until it is. Raises
        FloatingPointError when the sum is not finite.
        """
        penalised_DD = self.upper()
        diagonal = penalised_DD.diagonal().clone()
        if not diagonal.isfinite().all():  # no penalty would ever be enough
            raise FloatingPointError(f"the sum φφᵀ of {len(diagonal)} features is not finite")
        while True:
            penalised_DD.diagonal().copy_(diagonal + penalty)
            factor, failed = torch.linalg.cholesky_ex(penalised_DD, upper=True)
            if not failed.item():
                break
            penalty *= 10
        W_DK = torch.cholesky_solve(B_DK.to(torch.float64), factor, upper=True)
        return W_DK.to(torch.float32).contiguous()

    def _panels(self, triangle: Tensor) -> list[Tensor]:
        """Return views of ``triangle`` of shape [rows, columns], one a panel."""
        parts = torch.split(triangle, self._sizes)
        return [
            part.view(-1, self._bounds[-1] - start) for start, part in zip(self._bounds, parts, strict=False)
        ]

    def _fold(self) -> None:
        def fold(both: tuple[Tensor, Tensor]) -> None:
            folded, recent = both
            before = folded.clone()
            folded.add_(recent)
            recent.sub_(before.sub_(folded).neg_())

        share(
            fold, zip(torch.split(self.folded, _IN_CACHE), torch.split(self.recent, _IN_CACHE), strict=True)
        )
        self.unfolded = 0
