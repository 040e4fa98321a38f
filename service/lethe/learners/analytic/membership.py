"""A test of whether samples can be in the sums.

Shapes: B samples, D features, K classes.
"""

from typing import Final

import torch
from torch import Tensor, nn

from lethe.errors import NeverLearned
from lethe.learners.analytic.solution import ridge_solution
from lethe.learners.analytic.sums import Sums

__all__ = ["check_membership"]

_LEVERAGE_ROUNDS: Final = (
    0.01  # tolerance of a leverage above 1 for rounding; that of an unknown sample is far above
)
_SCATTER_ROUNDS: Final = 0.1


def check_membership(features_BD: Tensor, y_B: Tensor, sums: Sums, penalty_D: Tensor) -> None:
    """Raise NeverLearned when a sample with its label has a leverage above 1: none in the sums has.

    It is also raised when fewer samples of a class were learned than are given.

    With ψ = (φ, y), y one-hot, the sums A = Σ φφᵀ, B = Σ φyᵀ and the counts N = Σ yyᵀ are the blocks of M =
    Σ ψψᵀ. A sample that is in M has ψᵀ(M + Λ)⁻¹ψ ≤ 1 for any Λ ⪰ 0; several that all are have I − Ψ(M +
    Λ)⁻¹Ψᵀ ⪰ 0. By blocks that is the leverage φᵀ(A + Λ)⁻¹φ of the image plus, with W = (A + Λ)⁻¹B, rᵀ(N −
    BᵀW + μI)⁻¹r of its residual r = y − Wᵀφ. So a sample that was never learned, or not with this label, is
    rejected while the sums hold few samples, and can pass once they span all features.
    """
    sums.require(torch.bincount(y_B, minlength=sums.B_DK.shape[1]))
    if sums.gram is None:  # means allow no other test
        return
    features_BD = features_BD.to(torch.float64)
    B_DK, counts_K = sums.B_DK.to(torch.float64), sums.class_counts.to(torch.float64)
    onehot_BK = nn.functional.one_hot(y_B, len(counts_K)).to(B_DK)
    samples, dims = features_BD.shape
    both = ridge_solution(sums.gram.upper(), torch.cat([features_BD.T, B_DK], dim=1), penalty_D)
    solved_DB, W_DK = both[:, :samples].to(torch.float64), both[:, samples:].to(torch.float64)
    left_BB = torch.eye(samples, device=both.device, dtype=torch.float64) - features_BD @ solved_DB
    if _negative(left_BB):
        raise NeverLearned(f"not all {samples} samples can be in the sums: their leverage is above 1")
    scatter_KK = torch.diag(counts_K) - B_DK.T @ W_DK
    values_K, vectors_KK = torch.linalg.eigh((scatter_KK + scatter_KK.T) / 2)
    rounds = _SCATTER_ROUNDS * (1 + counts_K.max() / dims)  # μ, well above the rounding of the solution
    residuals_BK = (onehot_BK - features_BD @ W_DK) @ vectors_KK
    if _negative(left_BB - residuals_BK / (values_K.clamp_min(0) + rounds) @ residuals_BK.T):
        raise NeverLearned(f"not all {samples} samples can be in the sums with these labels")


def _negative(left_BB: Tensor) -> bool:
    """Return whether an eigenvalue is below zero, up to rounding; Cholesky is the fastest test."""
    shifted_BB = (left_BB + left_BB.T).div_(2)
    shifted_BB.diagonal().add_(_LEVERAGE_ROUNDS)
    return bool(torch.linalg.cholesky_ex(shifted_BB).info)
