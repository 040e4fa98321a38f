"""Moduli of oriented wavelet responses, the first layer of a scattering network, in exact arithmetic.

Images are small, and the moduli are added up over blocks. So a convolution is computed block by block: one
product of the window around a block with a fixed matrix gives the responses of all filters at all pixels of
the block. On a CPU this is several times as fast as a convolution of a single channel.

Pixels and weights are int8, so the sums of their products are exact (`integer_products`). A modulus takes two
squares, a sum and a square root (`square_roots`), each rounded as IEEE 754 demands.

Shapes: N maps, H height, W width, F filters, k pixels a side of a filter, h and w blocks.
"""

import math
from typing import Final

import torch
from torch import Tensor, nn

from lethe.learners.features.square_roots import square_roots, square_roots_
from lethe.learners.features.whole_filters import whole_filters
from lethe.learners.features.windows import WORD, windows
from lethe.learners.integer_products import product

__all__ = ["BLACK", "ConvolvedMaps", "ModulusMaps", "morlet_bank", "whole_bank"]

BLACK: Final = -128
"""Of a pixel. As the weights of a filter sum to 0, the response is as if black were 0."""


def morlet_bank(size: int, sigma: float, frequency: float, orientations: int) -> Tensor:
    """Return complex Morlet wavelets of shape [F, k, k], one per orientation, evenly spaced over half a turn.

    Each is a wave of ``frequency`` radians per pixel under a Gaussian of ``sigma`` pixels along the wave and
    twice as many across, less its mean, so that flat areas give no response. The amplitudes of the Gaussian
    sum to 1. (Bruna & Mallat 2013, Invariant Scattering Convolution Networks)
    """
    r = torch.arange(size, dtype=torch.float64) - size // 2
    y, x = torch.meshgrid(r, r, indexing="ij")
    bank = []
    for orientation in range(orientations):
        angle = math.pi * orientation / orientations
        along = x * math.cos(angle) + y * math.sin(angle)
        across = y * math.cos(angle) - x * math.sin(angle)
        gauss = torch.exp(-(along**2 + (across / 2) ** 2) / (2 * sigma**2))
        gauss /= gauss.sum()
        wave = torch.polar(torch.ones_like(along), frequency * along)
        bank.append(gauss * (wave - (gauss * wave).sum()))
    return torch.stack(bank)


def whole_bank(bank_Fkk: Tensor) -> tuple[Tensor, float]:
    """Return the bank in whole numbers, int8 of shape [2, F, k, k], and how many of them are a 1.

    The first half are the real parts, the second the imaginary ones.
    """
    return whole_filters(torch.stack((bank_Fkk.real, bank_Fkk.imag)))


class ModulusMaps:
    """The moduli of an image's responses to a bank of complex filters, added up over blocks.

    A block has 2×2 responses, ``step`` pixels apart.
    """

    def __init__(self, whole_2Fkk: Tensor, step: int, device: torch.device) -> None:
        """``whole_2Fkk`` is a bank as `whole_bank` returns it."""
        _, self._filters, self._size, _ = whole_2Fkk.shape
        self._step = step
        self._side = -(-(self._size + step) // WORD) * WORD  # of a window; weights beyond the filter are 0
        self._matrix = self._responses_of_a_block(whole_2Fkk).to(device)

    def __call__(self, x_NHW: Tensor) -> Tensor:
        """Return sums of moduli, float32 of shape [N, h, w, F], for int8 pixels, of which −128 is black.

        H and W are multiples of twice the step; pixels beyond the border are black.
        """
        maps, height, width = x_NHW.shape
        block = 2 * self._step
        margin = self._size // 2
        beyond = self._side - block - margin  # the last window ends there
        padded = nn.functional.pad(x_NHW, (margin, beyond, margin, beyond), value=BLACK)
        around_Pkk = windows(padded, self._side, self._side, block, block)
        # one row for each response of a block: the steps below then run along contiguous memory
        responses = product(self._matrix, around_Pkk.T)
        # In place: with a second array as large, glibc would return the memory to the system after each call,
        # and the page faults of the next one would take longer than the arithmetic.
        squares = responses.view(torch.float32).copy_(responses).square_()
        half = len(squares) // 2  # real parts first, imaginary parts second
        moduli = square_roots_(squares[:half].add_(squares[half:]))
        first, second, third, fourth = torch.split(moduli, self._filters)
        total = first.add(second).add_(third.add(fourth))  # in this order, on which its rounding depends
        return total.view(self._filters, maps, height // block, width // block).permute(1, 2, 3, 0)

    def _responses_of_a_block(self, whole_2Fkk: Tensor) -> Tensor:
        """Return the matrix from a window to [part, row in the block, column in it, filter]."""
        size, side = self._size, self._side
        matrix = torch.zeros(side, side, 2, 2, 2, self._filters, dtype=torch.int8)
        for row in range(2):
            for column in range(2):
                down, right = row * self._step, column * self._step
                matrix[down : down + size, right : right + size, :, row, column] = whole_2Fkk.permute(
                    2, 3, 0, 1
                )
        return matrix.reshape(side * side, -1)


class ConvolvedMaps:
    """The same sums as `ModulusMaps` by ordinary convolutions, which can be exported and are slower on a CPU.

    Whole numbers in float32: no sum of products reaches 2²⁴, so each is exact.
    """

    def __init__(self, whole_2Fkk: Tensor, step: int, device: torch.device) -> None:
        """``whole_2Fkk`` is a bank as `whole_bank` returns it."""
        self._weights = whole_2Fkk.flatten(0, 1)[:, None].to(device, torch.float32)
        self._margin, self._step = whole_2Fkk.shape[-1] // 2, step

    def __call__(self, x_NHW: Tensor) -> Tensor:
        """Return sums of moduli, float32 of shape [N, h, w, F], for int8 pixels."""
        padded = nn.functional.pad(x_NHW.to(torch.float32)[:, None], (self._margin,) * 4, value=BLACK)
        real, imaginary = nn.functional.conv2d(padded, self._weights, stride=self._step).chunk(2, 1)
        moduli = square_roots(real.square() + imaginary.square())
        upper, lower = moduli[:, :, ::2], moduli[:, :, 1::2]
        total = (upper[..., ::2] + upper[..., 1::2]) + (lower[..., ::2] + lower[..., 1::2])
        return total.permute(0, 2, 3, 1)
