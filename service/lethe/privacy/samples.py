"""Reads samples that a user names on the command line: PNG files, folders of them, or arrays in a file.

Vectors are in arrays.
"""

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from lethe.errors import InvalidFile, InvalidSetting, MalformedRecord
from lethe.wire import PNG, Labels, Layout, Pixels, decode
from lethe.wire.class_names import ClassNames

__all__ = ["Samples", "read_samples"]

KINDS: Final = "a PNG, a folder with a sub-folder of PNGs for each label, or a .npz with arrays x and y"


@dataclass(frozen=True, slots=True)
class Samples:
    """Labelled images or vectors.

    ``x_NCHW`` is uint8 of shape [N, C, H, W], or of vectors float32 of shape [N, F]; ``y_N`` int64 of shape
    [N].
    """

    x_NCHW: Pixels
    y_N: Labels
    at: Sequence[tuple[int, int]] = ()
    """Partition and offset of the record of each, from a ``.npz``; empty where they are not given."""

    def __len__(self) -> int:
        return len(self.y_N)


def read_samples(
    paths: Sequence[Path], label: int | None, layout: Layout, names: ClassNames | None = None
) -> Samples:
    """Return the samples in all of ``paths``, in order; ``label`` is that of each PNG named by itself.

    If classes have ``names``, folders are named after them; ``label`` and ``y`` are their numbers.

    A ``.npz`` holds ``x``, as in `Samples` or, for one channel, [N, H, W], and ``y``, N whole numbers; it may
    hold ``at``, whole numbers of shape [N, 2]: `Samples.at`. Raises InvalidFile naming what is no sample of
    ``layout``, InvalidSetting if a PNG has no label.
    """
    parts = [part for path in paths for part in _read(path, label, layout, names)]
    if not sum(map(len, parts)):
        raise InvalidFile(f"{', '.join(map(str, paths))}: no samples found; give {KINDS}")
    x_NCHW, y_N = (np.concatenate(arrays) for arrays in zip(*((p.x_NCHW, p.y_N) for p in parts), strict=True))
    return Samples(x_NCHW, y_N, [place for part in parts for place in part.at])


def _read(path: Path, label: int | None, layout: Layout, names: ClassNames | None) -> Iterator[Samples]:
    if path.is_dir():
        for png in sorted(path.glob("*/*.png")):
            yield _read_png(png, png.parent.name, layout, names)
    elif path.suffix == ".npz":
        yield _read_arrays(path, layout)
    elif path.suffix == ".png":
        if label is None:
            raise InvalidSetting(f"{path}: pass the label that it was learned with as --label")
        yield _read_png(path, str(label), layout)
    else:
        raise InvalidFile(f"{path} is not supported; give {KINDS}")


def _read_png(path: Path, label: str, layout: Layout, names: ClassNames | None = None) -> Samples:
    if layout.features is not None:
        raise InvalidFile(f"{path}: the samples are vectors, which a PNG cannot hold; give {KINDS}")
    headers = [("content-type", PNG.encode()), ("label", label.encode())]
    files = Layout.model_validate(layout.model_dump() | {"formats": "png"})  # whatever the stream accepts
    try:
        sample = decode(path.read_bytes(), headers, files, names=names)
    except MalformedRecord as error:
        raise InvalidFile(f"{path}: {error.detail}") from error
    return Samples(sample.pixels[np.newaxis], np.array([sample.label], np.int64))


def _read_arrays(path: Path, layout: Layout) -> Samples:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x, y, at = arrays["x"], arrays["y"], arrays.get("at", np.empty((0, 2), np.int64))
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidFile(f"{path} has no readable arrays x and y: {error}") from error
    if x.ndim == 3 and layout.shape[:-2] == (1,):
        x = x[:, np.newaxis]
    if x.dtype != layout.dtype or x.shape[1:] != layout.shape:
        raise InvalidFile(
            f"{path}: x is {x.dtype} of shape {x.shape}; it has to be {layout.dtype} of shape"
            f" [N, {', '.join(map(str, layout.shape))}]"
        )
    if layout.features is not None and not np.isfinite(x).all():
        raise InvalidFile(f"{path}: x has numbers that are not finite")
    whole = np.issubdtype(y.dtype, np.integer) and y.shape == x.shape[:1]
    if not whole or (len(y) and not 0 <= int(y.min()) <= int(y.max()) < layout.classes):
        raise InvalidFile(
            f"{path}: y has to be {len(x)} whole numbers from 0 to {layout.classes - 1}, "
            f"and is {y.dtype} of shape {y.shape}"
        )
    if not np.issubdtype(at.dtype, np.integer) or at.shape not in {(0, 2), (len(x), 2)}:
        raise InvalidFile(f"{path}: at has to be {len(x)} pairs of partition and offset, is {at.shape}")
    return Samples(x, y.astype(np.int64), [(int(partition), int(offset)) for partition, offset in at])
