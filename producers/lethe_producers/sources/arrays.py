"""Arrays of numpy, in .npz and .npy files, as sources."""

from pathlib import Path
from typing import Any, ClassVar
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from pydantic import Field

from lethe.errors import DataUnavailable
from lethe.wire import Labels, Pixels
from lethe_producers.sources.base import Classes, Part, Rows, rows_of_array
from lethe_producers.sources.files import FileSource

__all__ = ["Npy", "Npz"]

Array = npt.NDArray[Any]


class Npz(FileSource):
    """Samples and labels in one .npz file: x and y, or x_train, y_train, x_test and y_test as of Keras.

    Images are uint8 of shape [N, H, W], [N, H, W, C] or [N, C, H, W], vectors are float32 of shape [N, F];
    labels are integers or names.
    """

    images: str = "x"
    """Name of the array of images or vectors."""
    labels: str = "y"
    """Name of the array of labels."""

    def rows(self, part: Part, root: Path) -> Rows:
        """Open a part: that of the file if it has both, else by the holdout. Raises DataUnavailable."""
        arrays = self._read()
        parts = [f"{name}_{of}" for of in ("train", "test") for name in (self.images, self.labels)]
        if not all(name in arrays for name in parts):
            return super().rows(part, root)
        both = [_checked(arrays[f"{self.images}_{of}"], arrays[f"{self.labels}_{of}"], self.place)
                for of in ("train", "test")]  # fmt: skip
        y = np.concatenate([labels for _, labels in both])
        whole = labelled(np.concatenate([images for images, _ in both]), y, self.place)
        first = len(both[0][1])
        return whole.chosen(np.arange(first) if part == "train" else np.arange(first, len(whole)))

    def every_row(self) -> Rows:
        """Read the two arrays. Raises DataUnavailable."""
        arrays = self._read()
        for name in (self.images, self.labels):
            if name not in arrays:
                raise DataUnavailable(
                    f"{self.place} has no array {name}, only {', '.join(arrays) or 'none'}: name them with"
                    " images: and labels:"
                )
        return labelled(*_checked(arrays[self.images], arrays[self.labels], self.place), self.place)

    def _read(self) -> dict[str, Array]:
        try:
            with np.load(self.place, allow_pickle=False) as file:
                if isinstance(file, np.ndarray):
                    raise DataUnavailable(f"{self.place} is a .npy file: use npy")
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, BadZipFile, EOFError) as error:
            raise DataUnavailable(f"{self.place} cannot be read: {error}") from error


class Npy(FileSource):
    """Images or vectors in one .npy file and labels in another; as for npz."""

    short: ClassVar[str] = "path"

    labels: str = Field(min_length=1)
    """The file of labels; a relative path begins at the scenario's file."""

    def every_row(self) -> Rows:
        """Map the images into memory and read the labels. Raises DataUnavailable."""
        labels = self._folder / Path(self.labels).expanduser()
        return labelled(*_checked(_array(self.place), _array(labels), self.place), self.place)


def labelled(x: Array, y: Array, place: Path) -> Rows:
    """Return the rows of checked arrays; labels that are strings are names of classes."""
    x_NCHW = images_of(x, place)
    if y.dtype.kind == "U":
        names = y.tolist()
        classes, labels = Classes.named(names)
        return rows_of_array(x_NCHW, np.array([labels[name] for name in names], np.int64), classes)
    y_N: Labels = y.astype(np.int64)
    if len(y_N) and y_N.min() < 0:
        raise DataUnavailable(f"{place}: label {y_N.min()} is negative")
    return rows_of_array(x_NCHW, y_N, Classes(int(y_N.max()) + 1 if len(y_N) else 0))


def images_of(x: Array, place: Path) -> Pixels:
    """Return images as uint8 [N, C, H, W], vectors as they are.

    Raises DataUnavailable for another dtype or shape, and for vectors with a number that is not finite.
    """
    if x.dtype == np.float32 and x.ndim == 2:
        if not np.isfinite(x).all():
            raise DataUnavailable(f"{place}: vectors have numbers that are not finite")
        return x
    if x.dtype != np.uint8:
        raise DataUnavailable(
            f"{place}: images are {x.dtype}, expected uint8 from 0 to 255 (vectors: float32 [N, F])"
        )
    if x.ndim == 3:
        return x[:, np.newaxis]
    if x.ndim == 4 and x.shape[1] <= 4:
        return x
    if x.ndim == 4 and x.shape[3] <= 4:
        return x.transpose(0, 3, 1, 2)
    raise DataUnavailable(
        f"{place}: images have shape {list(x.shape)}, expected [N, H, W], [N, H, W, C] or [N, C, H, W]"
    )


def _checked(x: Array, y: Array, place: Path) -> tuple[Array, Array]:
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1 or y.dtype.kind not in "iuU":
        raise DataUnavailable(
            f"{place}: labels are {y.dtype} of shape {list(y.shape)}, expected integers [N]"
        )
    if x.ndim == 0 or len(x) != len(y):
        raise DataUnavailable(f"{place}: {len(x) if x.ndim else 0} images, but {len(y)} labels")
    return x, y


def _array(path: Path) -> Array:
    try:
        read = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataUnavailable(f"{path} cannot be read: {error}") from error
    if not isinstance(read, np.ndarray):
        raise DataUnavailable(f"{path} is a .npz file: use npz")
    return read
