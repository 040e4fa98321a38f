"""The sum A = Σ φφᵀ over samples, and the ridge solution of which it is one half.

Shapes: B batch, D features, K classes.
"""

import torch
from scipy.linalg.blas import ssyrk
from torch import Tensor

__all__ = ["Gram"]


class Gram:
    """A symmetric matrix that grows by φφᵀ; only ``upper_DD``'s upper triangle means anything.

    On a CPU it grows in place by BLAS's symmetric rank-k update, which does half the work of a
    plain product.
    """

    def __init__(self, features: int, device: torch.device) -> None:
        self.upper_DD = torch.zeros(features, features, device=device)

    def add(self, features_BD: Tensor) -> None:
        """Add φᵀφ for float32 φ of shape [B, D] on the device."""
        if self.upper_DD.device.type == "cpu":
            # BLAS counts in columns: its lower triangle of the transpose is our upper one
            ssyrk(1.0, features_BD.numpy().T, beta=1.0, c=self.upper_DD.numpy().T, lower=1, overwrite_c=1)
        else:
            self.upper_DD.addmm_(features_BD.T, features_BD)

    def solve(self, B_DK: Tensor, penalty: float) -> Tensor:
        """Return W = (A + penalty · I)⁻¹ B, float32 of shape [D, K], by a Cholesky factor.

        Raises torch.linalg.LinAlgError when the matrix is not positive definite.
        """
        penalised = self.upper_DD.to(torch.float64)
        penalised.diagonal().add_(penalty)
        factor = torch.linalg.cholesky(penalised, upper=True)
        return torch.cholesky_solve(B_DK.to(torch.float64), factor, upper=True).to(torch.float32).contiguous()
