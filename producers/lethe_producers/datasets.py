"""The data sets that can be streamed: their files, checksums and pixels.

Arrays carry their shape in their names: N images, C channels, H rows, W columns.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from lethe.errors import DataUnavailable
from lethe.wire import Pixels

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetName",
    "Split",
    "default_root",
    "load",
    "missing_or_corrupt",
]

DatasetName = Literal["mnist", "fashion-mnist"]
Split = Literal["train", "test"]

PREFIX: Final[dict[Split, str]] = {"train": "train", "test": "t10k"}


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set, as far as it is known without its files.

    ``sha256`` holds the digest of each uncompressed IDX file, ``rows_of_class`` the number of training
    images of each class: a scenario's length is known without the data.
    """

    name: DatasetName
    folder: str
    licence: str
    sha256: dict[str, str]
    rows_of_class: tuple[int, ...]
    classes: tuple[str, ...] = ()
    """Names of the classes, if they are more than the labels' numbers."""

    def raw(self, root: Path) -> Path:
        """The folder of the IDX files, as torchvision lays it out."""
        return root / self.folder / "raw"


DATASETS: Final[dict[DatasetName, Dataset]] = {
    "mnist": Dataset(
        name="mnist",
        folder="MNIST",
        licence="CC BY-SA 3.0, Y. LeCun, C. Cortes, C. Burges",
        sha256={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        rows_of_class=(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    ),
    "fashion-mnist": Dataset(
        name="fashion-mnist",
        folder="FashionMNIST",
        licence="MIT, Zalando SE",
        sha256={
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        rows_of_class=(6000,) * 10,
        classes=(
            "T-shirt",
            "trousers",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ),
    ),
}


def default_root() -> Path:
    """Return the folder of data sets: ``$LETHE_DATA``, else ``lethe`` in the user's cache folder."""
    if given := os.environ.get("LETHE_DATA"):
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "lethe"


def missing_or_corrupt(dataset: Dataset, root: Path) -> list[str]:
    """Return the files of ``dataset`` that are missing under ``root``.

    Raises DataUnavailable, naming the file, for one with another SHA-256 than the pinned one: it is
    neither used nor overwritten, because it may be the user's own.
    """
    missing = []
    for file, wanted in dataset.sha256.items():
        path = dataset.raw(root) / file
        if not path.is_file():
            missing.append(file)
        elif (found := _sha256(path)) != wanted:
            raise DataUnavailable(
                f"{path} is corrupt: its SHA-256 is {found}, not {wanted}; delete it to download it again"
            )
    return missing


def load(name: DatasetName, split: Split, root: Path) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Return ``x_NCHW`` (uint8, [N, 1, 28, 28]) and ``y_N`` (int64, [N]) of a downloaded data set.

    Raises DataUnavailable when a file is missing or its SHA-256 is not the pinned one.
    """
    dataset = DATASETS[name]
    if missing := missing_or_corrupt(dataset, root):
        raise DataUnavailable(
            f"{dataset.raw(root)} lacks {', '.join(missing)}: lethe-replay data downloads them"
        )
    # torch takes seconds to import, and --help does not need it. These are the readers inside
    # torchvision.datasets.MNIST; the class itself would prefer a pickled copy if there is one
    from torchvision.datasets.mnist import read_image_file, read_label_file

    prefix = str(dataset.raw(root) / PREFIX[split])
    x_NHW = read_image_file(f"{prefix}-images-idx3-ubyte").numpy()
    y_N = read_label_file(f"{prefix}-labels-idx1-ubyte").numpy()
    return x_NHW[:, np.newaxis], y_N.astype(np.int64, copy=False)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
