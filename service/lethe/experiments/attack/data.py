"""Draws the samples of an attack from a data set."""

from pathlib import Path
from typing import cast, get_args

import numpy as np

from lethe.errors import InvalidSetting
from lethe.privacy.samples import Samples
from lethe_producers.dataset_downloads import fetch
from lethe_producers.datasets import DatasetName, default_root, load

__all__ = ["draw"]


def draw(dataset: str, samples: int, seed: int, root: Path | None = None) -> Samples:
    """Return so many training images, drawn without replacement.

    Raises InvalidSetting for a data set that there is not, or that has fewer, DataUnavailable.
    """
    if dataset not in get_args(DatasetName):
        raise InvalidSetting(f"--dataset {dataset}: known are {', '.join(get_args(DatasetName))}")
    name = cast("DatasetName", dataset)
    root = root or default_root()
    fetch(name, root)
    x_NCHW, y_N = load(name, "train", root)
    if samples > len(y_N):
        raise InvalidSetting(f"--samples {samples}: {dataset} has {len(y_N)} training images")
    rows = np.random.default_rng(seed).choice(len(y_N), samples, replace=False)
    return Samples(x_NCHW[rows], y_N[rows])
