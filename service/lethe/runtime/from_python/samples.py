"""Samples from arrays, datasets and iterators: images as uint8 [C, H, W], or vectors as float32 [F].

Shapes: N samples, C channels, H height, W width, F numbers of a vector.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt
from PIL import Image

from lethe.probeset import ProbeSet
from lethe.wire import Layout, Pixels

__all__ = ["Data", "as_arrays", "first", "is_sized", "items", "layout_of", "values"]

Data: TypeAlias = Any
"""Labelled samples: a pair of arrays (x, y), a map-style dataset of pairs, an iterable of pairs or batches.

An image is a Pillow image, or an array or tensor of shape [H, W], [C, H, W] or [H, W, C]: uint8, or floats
from 0 to 1. A vector is an array or tensor of shape [F], of any finite numbers. A batch is a pair of such
samples, [N, …], and N labels, as torch's DataLoader gives. A pandas frame and series are arrays, too.
"""

Array: TypeAlias = npt.NDArray[Any]
MOST_CHANNELS: Final = 4
MODES: Final = ("L", "LA", "RGB", "RGBA")
"""Of Pillow's images, those whose numbers are 8-bit channels."""


def as_arrays(data: Data) -> tuple[Any, Any] | None:
    """Return the samples and the labels of a pair of arrays or of a probe set; None for any other data."""
    if isinstance(data, ProbeSet):
        return data.x_NCHW, data.y_N
    if isinstance(data, tuple) and len(data) == 2 and hasattr(data[0], "shape"):
        x, y = (given.to_numpy() if hasattr(given, "to_numpy") else given for given in data)
        return x, y
    return None


def is_sized(data: Data) -> TypeGuard[Any]:
    """Return whether ``data`` can be read by index more than once."""
    return as_arrays(data) is not None or (hasattr(data, "__getitem__") and hasattr(data, "__len__"))


def items(data: Data, where: str) -> Iterator[tuple[Any, Any]]:
    """Yield each sample with its label; of batches, one after the other.

    Raises ValueError, naming ``where``, for what is neither.
    """
    if (arrays := as_arrays(data)) is not None:
        x, y = arrays
        if len(x) != len(y):
            raise ValueError(f"{where}: {len(x)} samples but {len(y)} labels")
        yield from zip(x, y, strict=True)
        return
    found = (data[index] for index in range(len(data))) if is_sized(data) else iter(data)
    for item in found:
        if not isinstance(item, tuple | list) or len(item) < 2:
            raise ValueError(f"{where}: an item is {type(item).__name__}, expected (sample, label)")
        sample, label = item[0], item[1]
        if getattr(label, "ndim", 0) == 1 or isinstance(label, list | tuple):
            yield from zip(sample, label, strict=True)
        else:
            yield sample, label


def first(data: Data, where: str) -> tuple[Any, Data]:
    """Return the first sample of ``data``, and data that still begins with it.

    Raises ValueError if there is none.
    """
    begun = items(data, where)
    try:
        item = next(begun)
    except StopIteration:
        raise ValueError(f"{where}: there are no samples") from None
    return item[0], data if is_sized(data) else _Resumed(chain([item], begun))


class _Resumed:
    """An iterable whose first item was looked at."""

    def __init__(self, rest: Iterable[tuple[Any, Any]]) -> None:
        self._rest = rest

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return iter(self._rest)


def layout_of(sample: Any, classes: int, where: str) -> Layout:
    """Return the layout of a stream of such samples; raises ValueError, naming ``where``, if unclear."""
    array = _array(sample, where)
    shape = array.shape
    if array.ndim == 1 and array.size:
        return Layout(features=array.size, classes=classes)
    if array.ndim == 2:
        channels, height, width = 1, *shape
    elif array.ndim == 3 and (isinstance(sample, Image.Image) or shape[0] > MOST_CHANNELS >= shape[2]):
        height, width, channels = shape
    elif array.ndim == 3 and shape[0] <= MOST_CHANNELS < shape[2]:
        channels, height, width = shape
    else:
        raise ValueError(
            f"{where}: a sample has shape {list(shape)}, expected an image [H, W], [C, H, W] or [H, W, C] "
            f"with 1 to {MOST_CHANNELS} channels, or a vector [F]; if several are possible, give "
            "layout=Layout(…)"
        )
    return Layout(channels=channels, height=height, width=width, classes=classes)


def values(sample: Any, layout: Layout, where: str) -> Pixels:
    """Return an image as uint8 of shape [C, H, W], a vector as float32 of shape [F], as ``layout`` says.

    Raises ValueError, naming ``where``, for any other.
    """
    array = _array(sample, where)
    return (
        _pixels(sample, array, layout, where) if layout.features is None else _numbers(array, layout, where)
    )


def _numbers(array: Array, layout: Layout, where: str) -> Pixels:
    if array.shape != layout.shape:
        raise ValueError(
            f"{where}: a sample has shape {list(array.shape)}, the stream's are vectors of {layout.size}"
        )
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{where}: a vector is of {array.dtype}, expected numbers")
    with np.errstate(over="ignore"):  # too large for float32: it is then not finite
        numbers = np.ascontiguousarray(array.astype(np.float32))
    if not np.isfinite(numbers).all():
        raise ValueError(f"{where}: a vector has numbers that are missing, or not finite in float32")
    return numbers


def _pixels(image: Any, array: Array, layout: Layout, where: str) -> Pixels:
    channels, height, width = layout.shape
    if array.shape == (height, width) and channels == 1:
        array = array[None]
    elif array.shape == (height, width, channels) and (
        isinstance(image, Image.Image) or array.shape != layout.shape
    ):
        array = array.transpose(2, 0, 1)
    elif array.shape != layout.shape:
        raise ValueError(
            f"{where}: an image has shape {list(array.shape)}, the stream's are {channels}×{height}×{width}; "
            "resize it, or give layout=Layout(…)"
        )
    return _bytes(array, where)


def _array(image: Any, where: str) -> Array:
    if isinstance(image, Image.Image) and image.mode not in MODES:
        raise ValueError(f"{where}: a Pillow image of mode {image.mode}; convert it to L or RGB")
    if not (isinstance(image, Image.Image) or hasattr(image, "shape")):
        raise ValueError(
            f"{where}: a sample is {type(image).__name__}, expected an array, a tensor or a Pillow image"
        )
    return np.asarray(image)


def _bytes(array: Array, where: str) -> Pixels:
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind != "f":
        raise ValueError(f"{where}: pixels are {array.dtype}, expected uint8, or floats from 0 to 1")
    if not (array.min() >= 0 and array.max() <= 1):  # also for NaN
        raise ValueError(
            f"{where}: pixels are from {array.min():.3g} to {array.max():.3g}, expected uint8, or floats "
            "from 0 to 1: leave Normalize out, learners scale pixels themselves"
        )
    return np.ascontiguousarray(np.rint(array * 255).astype(np.uint8))
