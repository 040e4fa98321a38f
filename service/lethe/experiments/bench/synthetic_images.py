"""Synthetic images of several subjects, from which a learner with a state per subject reaches full size."""

from typing import Final

import numpy as np

from lethe.wire import Labels, Layout, Pixels

__all__ = ["SUBJECTS", "subject_images"]

SUBJECTS: Final = 8
"""As many as `experts` distinguishes by default."""
_CELLS: Final = 4
_NOISE: Final = 100
_LIGHT: Final = 150


def subject_images(layout: Layout, count: int, seed: int) -> tuple[Pixels, Labels]:
    """Return ``count`` samples, equally many per subject, one subject after the other.

    Each subject has its own bright cells, under noise; labels are random.
    """
    rng = np.random.default_rng(seed)
    lit_S44 = (np.arange(SUBJECTS)[:, None] + 1) * 40503 >> np.arange(_CELLS**2) & 1  # Knuth's multiplier
    rows, columns = (np.arange(side) * _CELLS // side for side in (layout.height, layout.width))
    lit_SHW = lit_S44.reshape(SUBJECTS, _CELLS, _CELLS)[:, rows][:, :, columns]
    subject_N = np.arange(count) * SUBJECTS // count
    noise_NCHW = rng.integers(0, _NOISE, (count, *layout.shape), np.uint8)
    lit_N1HW = (_LIGHT * lit_SHW).astype(np.uint8)[subject_N, np.newaxis]
    return noise_NCHW + lit_N1HW, rng.integers(0, layout.classes, count, np.int64)
