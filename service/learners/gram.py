"""The sum A = Σ φφᵀ over samples, and the ridge solution of which it is one half.

Shapes: B batch, D features, K classes.
"""

from typing import Final

import torch
from scipy.linalg.blas import ssyrk
from torch import Tensor

__all__ = ["Gram"]

_FOLD_EVERY: Final = 4096  # samples: fewer round less, more cost less


class Gram:
    """A symmetric matrix that grows by φφᵀ; only the upper triangles mean anything.

    It is the sum of two float32 matrices: ``recent_DD`` takes the batches, and is folded into
    ``folded_DD`` every 4,096 samples, where what the fold rounds off stays in ``recent_DD``
    (Kahan 1965). A single float32 matrix would lose, over 100,000 samples, about as much as the
    penalty of the ridge adds.

    On a CPU it grows in place by BLAS's symmetric rank-k update, which does half the work of a
    plain product.
    """

    def __init__(self, features: int, device: torch.device) -> None:
        self.folded_DD = torch.zeros(features, features, device=device)
        self.recent_DD = torch.zeros_like(self.folded_DD)
        self.unfolded = 0
        """Samples since the last fold."""

    def add(self, features_BD: Tensor) -> None:
        """Add φᵀφ for float32 φ of shape [B, D] on the device."""
        if self.recent_DD.device.type == "cpu":
            # BLAS counts in columns: its lower triangle of the transpose is our upper one
            ssyrk(1.0, features_BD.numpy().T, beta=1.0, c=self.recent_DD.numpy().T, lower=1, overwrite_c=1)
        else:
            self.recent_DD.addmm_(features_BD.T, features_BD)
        self.unfolded += len(features_BD)
        if self.unfolded >= _FOLD_EVERY:
            self._fold()

    def solve(self, B_DK: Tensor, penalty: float) -> Tensor:
        """Return W = (A + penalty · I)⁻¹ B, float32 of shape [D, K], by a Cholesky factor in float64.

        Over a long stream, rounding can outweigh a small penalty and leave a matrix that is not
        positive definite: the penalty is then raised tenfold until it is. Raises
        FloatingPointError when the sum is not finite.
        """
        penalised = self.folded_DD.to(torch.float64).add_(self.recent_DD)
        diagonal = penalised.diagonal().clone()
        if not penalised.isfinite().all():  # no penalty would ever be enough
            raise FloatingPointError(f"the sum φφᵀ of {len(diagonal)} features is not finite")
        while True:
            penalised.diagonal().copy_(diagonal + penalty)
            factor, failed = torch.linalg.cholesky_ex(penalised, upper=True)
            if not failed.item():
                break
            penalty *= 10
        W_DK = torch.cholesky_solve(B_DK.to(torch.float64), factor, upper=True)
        return W_DK.to(torch.float32).contiguous()

    def _fold(self) -> None:
        before_DD = self.folded_DD.clone()
        self.folded_DD.add_(self.recent_DD)
        self.recent_DD.sub_(before_DD.sub_(self.folded_DD).neg_())
        self.unfolded = 0
