"""Solves systems of linear equations in float64, to the same bits with any number of threads.

Shapes: D features, K classes.
"""

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from lethe.learners.parallel import share

__all__ = ["cholesky", "cholesky_solve", "ridge_solution"]

_PANEL: Final = 512  # rows that are eliminated at once, and columns that one thread computes of them


def ridge_solution(A_DD: Tensor, B_DK: Tensor, penalty_D: Tensor) -> Tensor:
    """Return W = (A + diag(penalty))⁻¹ B, float32 of shape [D, K], by a Cholesky factor in float64.

    Only the upper triangle of ``A_DD`` is read; its diagonal is overwritten. Sums of whole numbers are
    positive semidefinite without rounding, so that only a penalty below the rounding of the factorisation
    itself leaves a matrix that has none: it is then raised tenfold until there is one.
    """
    diagonal_D = A_DD.diagonal().clone()
    while True:
        A_DD.diagonal().copy_(diagonal_D + penalty_D)
        factor_DD = cholesky(A_DD)
        if factor_DD is not None:
            break
        penalty_D = penalty_D * 10
    return cholesky_solve(B_DK.to(torch.float64), factor_DD).to(torch.float32).contiguous()


def cholesky(A_DD: Tensor) -> Tensor | None:
    """Return the upper triangular U with A = UᵀU, float64 of shape [D, D]; None if there is none.

    Only the upper triangle of ``A_DD`` is read, and entries of U below its diagonal are undefined. On a CPU
    the rows of U follow from those above them, one panel after the other. Each piece of a panel is computed
    by a single thread, so that the number of threads changes no rounding.
    """
    if A_DD.device.type != "cpu":
        U_DD, info = torch.linalg.cholesky_ex(A_DD, upper=True)
        return None if info.item() else U_DD
    U_DD, failed = torch.empty_like(A_DD), list[bool]()

    def eliminate(piece: tuple[slice, slice]) -> None:
        rows, columns = piece
        left, above = U_DD[: rows.start, rows].T, U_DD[: rows.start, columns]
        torch.addmm(A_DD[piece], left, above, alpha=-1, out=U_DD[piece])

    def factorise(rows: slice) -> None:
        U_DD[rows, rows], info = torch.linalg.cholesky_ex(U_DD[rows, rows], upper=True)
        failed.append(bool(info))

    def divide(piece: tuple[slice, slice]) -> None:
        rows, _ = piece
        U_DD[piece] = torch.linalg.solve_triangular(U_DD[rows, rows].T, U_DD[piece], upper=False)

    for rows in _pieces(0, len(A_DD)):
        share(eliminate, [(rows, columns) for columns in _pieces(rows.start, len(A_DD))])
        share(factorise, [rows])
        if failed[-1]:
            return None
        share(divide, [(rows, columns) for columns in _pieces(rows.stop, len(A_DD))])
    return U_DD


def cholesky_solve(B_DK: Tensor, U_DD: Tensor) -> Tensor:
    """Return X with UᵀU X = B, float64 of shape [D, K], for a ``U_DD`` of `cholesky`."""
    X_DK = torch.empty_like(B_DK)

    def solve(columns: slice) -> None:
        half_DK = torch.linalg.solve_triangular(U_DD.mT, B_DK[:, columns], upper=False)
        X_DK[:, columns] = torch.linalg.solve_triangular(U_DD, half_DK, upper=True)

    share(solve, _pieces(0, B_DK.shape[1]))
    return X_DK


def _pieces(start: int, stop: int) -> Iterator[slice]:
    """Yield the panels from ``start`` on."""
    for first in range(start, stop, _PANEL):
        yield slice(first, min(first + _PANEL, stop))
