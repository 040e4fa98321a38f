"""Responses of images to whitened patches, rectified and added up over cells, in exact arithmetic.

A response counts from `_THRESHOLD` on, of either sign separately (Coates, Lee & Ng 2011, An Analysis of
Single-Layer Networks in Unsupervised Feature Learning). What a patch of an image varies by is divided out of
its responses, so that faint contours count beside bright ones.

Pixels and weights are int8, so sums of their products are exact (`integer_products`), and so are variances.
Dividing takes a few operations that are each rounded as IEEE 754 demands; then responses are rounded to whole
numbers, whose sums are exact again.

Shapes: N images, H height, W width, F filters, k pixels a side of a filter, h and w responses.
"""

from typing import Final

import torch
from torch import Tensor, nn

from lethe.learners.features.morlet import BLACK
from lethe.learners.features.patch_filters import CONTRAST, patch_filters
from lethe.learners.features.square_roots import square_roots, square_roots_
from lethe.learners.features.windows import WORD, windows
from lethe.learners.integer_products import product

__all__ = ["CELLS", "FILTERS", "STEPS", "ConvolvedPatches", "PatchSums", "responses_per_cell"]

FILTERS: Final = 64
CELLS: Final = 4
"""Cells down and across."""
STEPS: Final = 16
"""Of a response of 1."""
_SIZE: Final = WORD - 1  # of a filter, in pixels
_THRESHOLD: Final = 4  # steps: a quarter
_AT_ONCE: Final = 8  # images: more no longer fit the cache


def responses_per_cell(height: int, width: int) -> int:
    """Return how many responses to a filter are added up in a cell."""
    return _responses(height) * _responses(width) // CELLS**2


class PatchSums:
    """Sums of rectified responses, by integer products.

    Sides are multiples of `CELLS`. The first F are the positive responses, the others the negative ones; both
    count in `STEPS`.
    """

    def __init__(self, height: int, width: int, device: torch.device) -> None:
        filters_Fkk, self._units = patch_filters(FILTERS, _SIZE)
        self._margins = _margins(height, width)
        self._down, self._across = _responses(height), _responses(width)
        # one window of eight columns holds those of two responses, so that it is copied as whole words
        matrix = torch.zeros(_SIZE, WORD, 2, FILTERS, dtype=torch.int8)
        for column in range(2):
            matrix[:, column : column + _SIZE, column] = filters_Fkk.permute(1, 2, 0)
        self._matrix = matrix.view(_SIZE * WORD, 2 * FILTERS).to(device)
        self._cells = self._membership().to(device)

    def __call__(self, x_NHW: Tensor) -> Tensor:
        """Return the sums, float32 of shape [N, 2 F, CELLS, CELLS], for int8 pixels; −128 is black."""
        return torch.cat([self._sums(part_PHW) for part_PHW in torch.split(x_NHW, _AT_ONCE)])

    def _sums(self, x_PHW: Tensor) -> Tensor:
        images, pairs = len(x_PHW), self._across // 2
        padded = nn.functional.pad(x_PHW, self._margins, value=BLACK)
        around = windows(padded, _SIZE, WORD, 1, 2)
        responses = product(self._matrix, around.T).view(2, FILTERS, -1)
        inverse_Phw = STEPS / (self._units * square_roots_(_variances(padded)))
        inverse = inverse_Phw.view(1, -1, 2).permute(2, 0, 1).contiguous()
        steps = responses.to(torch.float32).mul_(inverse).round_()
        beyond = nn.functional.softshrink(steps, _THRESHOLD).view(2, FILTERS * images, self._down * pairs)
        difference = torch.bmm(beyond, self._cells).sum(0)
        total = torch.bmm(beyond.abs_(), self._cells).sum(0)
        both = torch.cat((total + difference, total - difference)) * 0.5
        return both.view(2 * FILTERS, images, CELLS, CELLS).transpose(0, 1)

    def _membership(self) -> Tensor:
        """Return which responses are in which cell: zeros and ones of [column of a pair, pair, cell]."""
        cells = torch.zeros(self._down, self._across, CELLS, CELLS)
        for row in range(self._down):
            for column in range(self._across):
                cells[row, column, row * CELLS // self._down, column * CELLS // self._across] = 1
        return cells.view(self._down * self._across // 2, 2, CELLS**2).transpose(0, 1).contiguous()


class ConvolvedPatches:
    """The same sums as `PatchSums` by ordinary convolutions, which can be exported and are slower on a CPU.

    Whole numbers in float32: no sum of products reaches 2²⁴, so each is exact.
    """

    def __init__(self, height: int, width: int, device: torch.device) -> None:
        filters_Fkk, self._units = patch_filters(FILTERS, _SIZE)
        self._weights = filters_Fkk[:, None].to(device, torch.float32)
        self._margins = _margins(height, width)
        self._down, self._across = _responses(height) // CELLS, _responses(width) // CELLS

    def __call__(self, x_NHW: Tensor) -> Tensor:
        """Return the sums, float32 of shape [N, 2 F, CELLS, CELLS], for int8 pixels."""
        padded = nn.functional.pad(x_NHW.to(torch.float32), self._margins, value=BLACK)
        responses = nn.functional.conv2d(padded[:, None], self._weights)
        inverse_Nhw = STEPS / (self._units * square_roots(_variances(padded)))
        steps = (responses * inverse_Nhw[:, None]).round()
        both = torch.cat((steps, -steps), 1).sub(_THRESHOLD).clamp_min(0)
        cells = both.reshape(-1, 2 * FILTERS, CELLS, self._down, CELLS, self._across)
        return cells.sum((3, 5))


def _margin(side: int) -> int:
    """Return how many black pixels are put on either end of a side, so that its responses fill the cells."""
    return 1 if side > CELLS else _SIZE // 2


def _margins(height: int, width: int) -> tuple[int, int, int, int]:
    return (*2 * (_margin(width),), *2 * (_margin(height),))


def _responses(side: int) -> int:
    return side + 2 * _margin(side) - _SIZE + 1


def _variances(x_NHW: Tensor) -> Tensor:
    """Return the variance of each window of a filter's size, to which `CONTRAST` is added.

    Sums of pixels and of squares are exact, and so is the variance times k⁴ in float64.
    """
    pixels = _SIZE**2
    x_NHW = x_NHW.to(torch.float32)
    sums, squares = (_window_sums(x).to(torch.float64) for x in (x_NHW, x_NHW.square()))
    varied = (pixels * squares - sums.square()).to(torch.float32)
    return varied.mul_(1 / (pixels * (pixels - 1))).add_(CONTRAST)


def _window_sums(x_NHW: Tensor) -> Tensor:
    for dimension in (1, 2):
        count = x_NHW.shape[dimension] - _SIZE + 1
        shifted = [x_NHW.narrow(dimension, first, count) for first in range(_SIZE)]
        x_NHW = shifted[0] + shifted[1]
        for more in shifted[2:]:
            x_NHW += more
    return x_NHW
