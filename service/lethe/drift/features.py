"""The features that boundary detection uses: sums over the samples of a batch, never a sample.

Shapes: B batch, N = B + 1, C channels, H height, W width, F features, V numbers of a vector.
"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

__all__ = ["CELLS", "MOST", "FeatureSums", "Numbers", "sum_features"]

Numbers = npt.NDArray[np.float64]
_Samples = npt.NDArray[np.uint8 | np.float32]
_Grey = npt.NDArray[np.uint8 | np.float32 | np.uint32]

MOST: Final = 64
"""Most features of a vector."""
CELLS: Final = 4
"""Cells per side of the brightness grid; fewer for an image with fewer pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSums:
    """Cumulative sums of the features of B samples, from which any range can be summed.

    Of images the features are the mean brightness of each cell, row by row, then the mean absolute difference
    of neighbours in a row and in a column; all from 0 to 1. Of vectors they are the numbers themselves, or,
    of more than `MOST`, the means of so many runs of neighbours, all on a logarithmic scale with both signs.
    """

    sums_NF: Numbers
    """Row n is the sum over the first n samples."""
    squares_NF: Numbers
    """Row n is the sum of squares over the first n samples."""

    @classmethod
    def of(cls, values_BF: Numbers) -> Self:
        """Return the cumulative sums of given features."""
        values_NF = np.concatenate((np.zeros((1, values_BF.shape[1])), values_BF))
        return cls(values_NF.cumsum(0), np.square(values_NF).cumsum(0))

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.sums_NF) - 1

    def to_bytes(self) -> bytes:
        """Return the sums as bytes."""
        return np.stack((self.sums_NF, self.squares_NF)).tobytes()

    @classmethod
    def from_bytes(cls, given: bytes, count: int) -> Self:
        """Return the sums over ``count`` images of which `to_bytes` returned ``given``."""
        sums_NF, squares_NF = np.frombuffer(given).reshape(2, count + 1, -1)
        return cls(sums_NF, squares_NF)

    def between(self, begin: int, end: int) -> tuple[Numbers, Numbers]:
        """Return the sums and the sums of squares over the samples ``begin`` to ``end`` − 1, each [F]."""
        return (
            self.sums_NF[end] - self.sums_NF[begin],
            self.squares_NF[end] - self.squares_NF[begin],
        )


def sum_features(x_BCHW: _Samples) -> FeatureSums:
    """Return the cumulative sums of the features over a batch of images, or of vectors of shape [B, V]."""
    return FeatureSums.of(_of_vectors(x_BCHW) if x_BCHW.ndim == 2 else _of_images(x_BCHW))


def _of_vectors(x_BV: _Samples) -> Numbers:
    """Return the features of vectors; asinh keeps a huge number from hiding all others."""
    count = x_BV.shape[1]
    starts = np.arange(min(MOST, count)) * count // min(MOST, count)
    means_BF = np.add.reduceat(x_BV, starts, 1, dtype=np.float64) / np.diff([*starts, count])
    return np.asarray(np.arcsinh(means_BF))


def _of_images(x_BCHW: _Samples) -> Numbers:
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
    return np.asarray(values_BF / (255 * channels))


def _starts(side: int) -> npt.NDArray[np.intp]:
    return np.arange(min(CELLS, side)) * side // min(CELLS, side)


def _differences(one_Bhw: _Grey, other_Bhw: _Grey) -> npt.NDArray[np.uint32]:
    """Return the sums of absolute differences, of shape [B, 1]."""
    gaps_Bhw = np.maximum(one_Bhw, other_Bhw) - np.minimum(one_Bhw, other_Bhw)
    sums_B1: npt.NDArray[np.uint32] = gaps_Bhw.reshape(len(gaps_Bhw), -1).sum(1, np.uint32, keepdims=True)
    return sums_B1
