"""One sample that every producer's test can encode."""

import numpy as np

from lethe.wire import Sample

__all__ = ["picture"]


def picture() -> Sample:
    return Sample(np.arange(784, dtype=np.uint8).reshape(1, 28, 28), 3, "mnist")
