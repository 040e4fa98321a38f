"""Random Fourier features along random orthogonal directions: the cosines of random waves.

Shapes: B batch, C coefficients, n the power of two that C is filled up to, W waves.
"""

import math
from typing import Final

import torch
from torch import Tensor, nn

from service.learners.hadamard import hadamard_matrix, transformed

__all__ = ["RandomWaves"]

_FEW: Final = 4  # rows: of more of them, all sums of one step lie close enough together to be fast
_ROUNDS: Final = 2


class RandomWaves:
    """cos(ωx + b) for W directions ω that are drawn from a seed, of one length, and b from 0 to 2π.

    Products of two samples' features approach a Gaussian kernel (Rahimi & Recht 2007, Random Features
    for Large-Scale Kernel Machines). The directions are the first rows of HD₂HD₁, one such product
    after the other, where D has random signs on its diagonal and H is the Hadamard matrix of n rows:
    orthogonal ones approach the kernel faster than independent ones do (Yu et al. 2016, Orthogonal
    Random Features).

    No matrix of them is kept: H is applied in n log₂ n steps (Le et al. 2013, Fastfood), in float32.
    For few rows those steps are too small to be fast; H is then applied as the Kronecker product of
    two small matrices that it is, in float64, to the same result but for the rounding of sums.
    """

    def __init__(
        self, weights_C: Tensor, waves: int, generator: torch.Generator, device: torch.device
    ) -> None:
        """``weights_C`` is the length of a direction, in radians, along each of the coefficients."""
        self._n = 1 << max(0, len(weights_C) - 1).bit_length()
        blocks = -(-waves // self._n)
        signs = torch.randint(2, (_ROUNDS, blocks, self._n), generator=generator).mul(2.0).sub_(1)
        lengths_n = nn.functional.pad(weights_C / math.sqrt(self._n), (0, self._n - len(weights_C)))
        self._before = (signs[0] * lengths_n).to(device)
        self._between = signs[1].to(device)
        columns = 1 << (self._n.bit_length() // 2)
        self._left = hadamard_matrix(self._n // columns).to(device, torch.float64)
        self._right = hadamard_matrix(columns).to(device, torch.float64)
        self._phases_W = torch.rand(waves, generator=generator).mul_(2 * math.pi).to(device)
        self.count = waves
        """W."""

    def __call__(self, coefficients_BC: Tensor) -> Tensor:
        """Return the cosines, float32 of shape [B, W], for float32 coefficients of shape [B, C]."""
        angles_BW = (self._of_few if len(coefficients_BC) <= _FEW else self._of_many)(coefficients_BC)
        return angles_BW.add_(self._phases_W).cos_()

    def _of_many(self, coefficients_BC: Tensor) -> Tensor:
        batch, coefficients = coefficients_BC.shape
        angles_WB = coefficients_BC.new_empty(self.count, batch)
        for block, (before_n, between_n) in enumerate(zip(self._before, self._between, strict=True)):
            angles_nB = angles_WB[block * self._n : (block + 1) * self._n]
            x_nB = coefficients_BC.new_zeros(self._n, batch)
            torch.mul(coefficients_BC.T, before_n[:coefficients, None], out=x_nB[:coefficients])
            x_nB = transformed(x_nB, self._n).mul_(between_n[:, None])
            angles_nB.copy_(transformed(x_nB, len(angles_nB)))
        return angles_WB.T

    def _of_few(self, coefficients_BC: Tensor) -> Tensor:
        batch, coefficients = coefficients_BC.shape
        x = nn.functional.pad(coefficients_BC.to(torch.float64), (0, self._n - coefficients))[:, None]
        for signs in (self._before, self._between):
            grid = (x * signs).view(-1, len(self._left), len(self._right))
            x = (self._left @ (grid @ self._right)).view(batch, -1, self._n)
        return x.reshape(batch, -1)[:, : self.count].to(torch.float32)
