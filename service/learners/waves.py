"""Random Fourier features along random orthogonal directions: the cosines of random waves.

Shapes: B batch, C coefficients, n the power of two that C is filled up to, W waves.
"""

import math
from typing import Final

import torch
from torch import Tensor

__all__ = ["FEW", "PIECE", "RandomWaves"]

PIECE: Final = 256
"""Waves that are best computed together: what they take stays in a core's cache."""
FEW: Final = 16
"""Rows: for more of them the matrix is read fast enough."""
_ROUNDS: Final = 2


class RandomWaves:
    """cos(ωx + b) for W directions ω that are drawn from a seed, of one length, and b from 0 to 2π.

    Products of two samples' features approach a Gaussian kernel (Rahimi & Recht 2007, Random Features
    for Large-Scale Kernel Machines). The directions are the first rows of HD₂HD₁, one such product
    after the other, where D has random signs on its diagonal and H is the Hadamard matrix of n rows:
    orthogonal ones approach the kernel faster than independent ones do (Yu et al. 2016, Orthogonal
    Random Features).

    The entries of HD₂HD₁ are even integers, and practically all of them below 512, so that bfloat16 holds
    them exactly. For many rows they are kept as a matrix. To read it takes longer than anything
    else that a single row needs: for few rows, H is applied as the Kronecker product of two small ones
    that it is, in float64, to the same result but for the rounding of sums.
    """

    def __init__(
        self, weights_C: Tensor, waves: int, generator: torch.Generator, device: torch.device
    ) -> None:
        """``weights_C`` is the length of a direction, in radians, along each of the coefficients.

        They are powers of two times one number, or what the matrix holds is rounded.
        """
        self._coefficients = len(weights_C)
        filled = 1 << max(0, self._coefficients - 1).bit_length()
        blocks = -(-waves // filled)
        self._scale = weights_C.max().item() / math.sqrt(filled)
        self._weights_C = (weights_C / weights_C.max()).to(device)
        signs = torch.randint(2, (_ROUNDS, blocks, filled), generator=generator)
        self._signs = signs.mul(2.0).sub_(1).to(device)
        columns = 1 << (filled.bit_length() // 2)
        self._left = _hadamard(filled // columns).to(device, torch.float64)
        self._right = _hadamard(columns).to(device, torch.float64)
        self._phases_W = torch.rand(waves, generator=generator).mul_(2 * math.pi).to(device)
        self.count = waves
        """W."""
        rows = torch.split(torch.eye(self._coefficients, device=device).mul_(self._weights_C), PIECE)
        matrix_CW = torch.cat([self._transformed(part.double()).to(torch.float32) for part in rows])
        self._pieces = [piece.contiguous() for piece in torch.split(matrix_CW, PIECE, 1)]

    def __call__(self, coefficients_BC: Tensor, first: int) -> Tensor:
        """Return the cosines of up to `PIECE` waves, of shape [B, waves], from ``first`` on.

        ``coefficients_BC`` are `products.rounded`; ``first`` is a multiple of `PIECE`.
        """
        products_BW: Tensor = coefficients_BC @ self._pieces[first // PIECE]
        return products_BW.mul_(self._scale).add_(self._phases_W[first : first + PIECE]).cos_()

    def of_few(self, coefficients_BC: Tensor) -> Tensor:
        """Return the cosines of all waves, of shape [B, W]."""
        angles_BW = self._transformed(coefficients_BC.double() * self._weights_C).mul_(self._scale)
        return angles_BW.to(torch.float32).add_(self._phases_W).cos_()

    def _transformed(self, x_BC: Tensor) -> Tensor:
        """Return the products HD₂HD₁x, of shape [B, W], float64 as x is."""
        _, blocks, filled = self._signs.shape
        x = torch.nn.functional.pad(x_BC, (0, filled - self._coefficients))[:, None]
        for signs in self._signs:
            grid = (x * signs).view(len(x) * blocks, len(self._left), len(self._right))
            x = (self._left @ (grid @ self._right)).view(len(x), blocks, filled)
        return x.reshape(len(x), blocks * filled)[:, : self.count]


def _hadamard(size: int) -> Tensor:
    """Return the Hadamard matrix of Sylvester, of 1 and −1, for a power of two."""
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)))
    return matrix
