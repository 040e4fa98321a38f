"""Noise of two brightnesses, and its feature sums, which drift detection compares."""

import numpy as np

from lethe.drift.features import sum_features
from lethe.drift.reference import FeatureReference
from lethe.wire import Pixels

__all__ = ["pictures", "reference"]


def pictures(seed: int, count: int, brightness: int) -> Pixels:
    """Noise images of two classes, one brighter than the other."""
    rng = np.random.default_rng(seed)
    noise: Pixels = rng.integers(0, 100, (count, 1, 8, 8), np.uint8)
    noise += brightness * rng.integers(1, 3, (count, 1, 1, 1), np.uint8)
    return noise


def reference(x_NCHW: Pixels) -> FeatureReference:
    """The sums over all of the images."""
    sums_F, squares_F = sum_features(x_NCHW).between(0, len(x_NCHW))
    return FeatureReference(len(x_NCHW), sums_F.tolist(), squares_F.tolist())
