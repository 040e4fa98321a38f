"""The samples of an attack, drawn from a data set that the producers know."""

from pathlib import Path
from typing import cast, get_args

import numpy as np

from producers.datasets import DatasetName, load
from producers.sources import fetch
from service.errors import InvalidSetting
from service.privacy.samples import Samples

__all__ = ["draw"]


def draw(dataset: str, samples: int, seed: int, root: Path) -> Samples:
    """Return so many training images, drawn without replacement.

    Raises InvalidSetting for a data set that there is not, or that has fewer, DataUnavailable.
    """
    if dataset not in get_args(DatasetName):
        raise InvalidSetting(f"--dataset {dataset}: there are {', '.join(get_args(DatasetName))}")
    name = cast("DatasetName", dataset)
    fetch(name, root)
    x_NCHW, y_N = load(name, "train", root)
    if samples > len(y_N):
        raise InvalidSetting(f"--samples {samples}: {dataset} has {len(y_N)} training images")
    rows = np.random.default_rng(seed).choice(len(y_N), samples, replace=False)
    return Samples(x_NCHW[rows], y_N[rows])
