"""The Hadamard transform of Sylvester, by n log₂ n additions.

Shapes: n entries, a power of two; B vectors.
"""

import torch
from torch import Tensor

from lethe.learners.scripted import scripted

__all__ = ["hadamard_matrix", "hadamard_transform"]


def hadamard_matrix(n: int) -> Tensor:
    """Return H, float32 of shape [n, n]."""
    matrix = torch.ones(1, 1)
    while len(matrix) < n:
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)))
    return matrix


@scripted
def hadamard_transform(x_nB: Tensor, rows: int) -> Tensor:
    """Return the first ``rows`` of Hx, of shape [rows, B]; overwrites ``x_nB``, which is contiguous.

    Vectors lie along the first dimension, so that the sums of many vectors are contiguous.
    """
    half = len(x_nB) // 2
    while half >= rows:  # differences are not needed
        x_nB = x_nB[:half].add_(x_nB[half:])
        half = half // 2  # TorchScript has no //=
    while half > 0:
        upper, lower = x_nB.view(-1, 2, half * x_nB.shape[1]).unbind(1)
        upper.add_(lower)
        torch.sub(upper, lower, alpha=2, out=lower)  # a − b is (a + b) − 2b
        half = half // 2
    return x_nB[:rows]
