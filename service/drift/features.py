"""What boundaries see of a batch: sums over images of a few features, never an image.

Shapes: B batch, C channels, H height, W width, F features.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["CELLS", "FEATURES", "FeatureSums", "sum_features"]

CELLS: Final = 4
"""Cells a side of the grid in which brightness is measured; fewer where an image has fewer pixels."""
FEATURES: Final = CELLS**2 + 2


@dataclass(frozen=True, slots=True)
class FeatureSums:
    """``count`` images summed: of each feature the values and their squares.

    The features are the mean brightness of each cell, row by row, then the mean difference
    of neighbours in a row and in a column; all from 0 to 1.
    """

    count: int
    sums: tuple[float, ...]
    squares: tuple[float, ...]


def sum_features(x_BCHW: npt.NDArray[np.uint8]) -> FeatureSums:
    """Return the features' sums over a batch of images."""
    grey_BHW = x_BCHW.astype(np.float32).mean(1) / 255
    rows, columns = (_starts(side) for side in grey_BHW.shape[1:])
    cells_Bhw = np.add.reduceat(np.add.reduceat(grey_BHW, rows, 1), columns, 2)
    areas_hw = np.outer(*(np.diff([*_starts(side), side]) for side in grey_BHW.shape[1:]))
    values_BF = np.concatenate(
        (
            (cells_Bhw / areas_hw).reshape(len(grey_BHW), -1),
            _differences(grey_BHW, axis=2)[:, np.newaxis],
            _differences(grey_BHW, axis=1)[:, np.newaxis],
        ),
        axis=1,
        dtype=np.float64,
    )
    return FeatureSums(
        len(values_BF), tuple(values_BF.sum(0).tolist()), tuple(np.square(values_BF).sum(0).tolist())
    )


def _starts(side: int) -> npt.NDArray[np.intp]:
    return np.arange(min(CELLS, side)) * side // min(CELLS, side)


def _differences(grey_BHW: npt.NDArray[np.float32], axis: int) -> npt.NDArray[np.float32]:
    pixels = np.float32(grey_BHW.shape[1] * grey_BHW.shape[2])
    means: npt.NDArray[np.float32] = np.abs(np.diff(grey_BHW, axis=axis)).sum((1, 2)) / pixels
    return means
