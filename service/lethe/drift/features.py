"""The features that boundary detection uses: sums over the images of a batch, never an image.

Shapes: B batch, N = B + 1, C channels, H height, W width, F features.
"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

__all__ = ["CELLS", "FeatureSums", "Numbers", "sum_features"]

Numbers = npt.NDArray[np.float64]
_Grey = npt.NDArray[np.uint8] | npt.NDArray[np.uint32]

CELLS: Final = 4
"""Cells per side of the brightness grid; fewer for an image with fewer pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSums:
    """Cumulative sums of the features of B images, from which any range can be summed.

    The features are the mean brightness of each cell, row by row, then the mean absolute difference of
    neighbours in a row and in a column; all from 0 to 1.
    """

    sums_NF: Numbers
    """Row n is the sum over the first n images."""
    squares_NF: Numbers
    """Row n is the sum of squares over the first n images."""

    @classmethod
    def of(cls, values_BF: Numbers) -> Self:
        """Return the cumulative sums of given features."""
        values_NF = np.concatenate((np.zeros((1, values_BF.shape[1])), values_BF))
        return cls(values_NF.cumsum(0), np.square(values_NF).cumsum(0))

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.sums_NF) - 1

    def between(self, begin: int, end: int) -> tuple[Numbers, Numbers]:
        """Return the sums and the sums of squares over the images ``begin`` to ``end`` − 1, each [F]."""
        return (
            self.sums_NF[end] - self.sums_NF[begin],
            self.squares_NF[end] - self.squares_NF[begin],
        )


def sum_features(x_BCHW: npt.NDArray[np.uint8]) -> FeatureSums:
    """Return the cumulative sums of the features over a batch of images."""
    channels, height, width = x_BCHW.shape[1:]
    grey_BHW = x_BCHW[:, 0] if channels == 1 else x_BCHW.sum(1, dtype=np.uint32)  # integers: exact
    rows, columns = _starts(height), _starts(width)
    cells_Bhw = np.add.reduceat(np.add.reduceat(grey_BHW, rows, 1, dtype=np.uint32), columns, 2)
    areas_hw = np.outer(np.diff([*rows, height]), np.diff([*columns, width]))
    values_BF = np.concatenate(
        (
            (cells_Bhw / areas_hw).reshape(len(grey_BHW), -1),
            _differences(grey_BHW[:, :, 1:], grey_BHW[:, :, :-1]) / (height * width),
            _differences(grey_BHW[:, 1:], grey_BHW[:, :-1]) / (height * width),
        ),
        axis=1,
    )
    return FeatureSums.of(values_BF / (255 * channels))


def _starts(side: int) -> npt.NDArray[np.intp]:
    return np.arange(min(CELLS, side)) * side // min(CELLS, side)


def _differences(one_Bhw: _Grey, other_Bhw: _Grey) -> npt.NDArray[np.uint32]:
    """Return the sums of absolute differences, of shape [B, 1]."""
    gaps_Bhw = np.maximum(one_Bhw, other_Bhw) - np.minimum(one_Bhw, other_Bhw)
    sums_B1: npt.NDArray[np.uint32] = gaps_Bhw.reshape(len(gaps_Bhw), -1).sum(1, np.uint32, keepdims=True)
    return sums_B1
