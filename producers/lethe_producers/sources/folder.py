"""A folder of pictures, one folder for each label, as a source."""

from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydantic import Field

from lethe.errors import DataUnavailable
from lethe.wire import Pixels
from lethe_producers.sources.base import Classes, Integers, Rows
from lethe_producers.sources.files import FileSource
from lethe_producers.sources.pictures import upright_pixels

__all__ = ["Folder"]

FORMATS: Final = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Formats by suffix; other files are ignored."""
Side = Annotated[int, Field(ge=1, le=4096)]


class Folder(FileSource):
    """Pictures in LABEL/NAME.png, .jpg or .webp: the names of the folders are the labels.

    If they are all decimal numbers, they are the labels' numbers.
    """

    size: tuple[Side, Side] | None = None
    """Height and width to which pictures are scaled and cropped. Without it, all must have one size."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for colour. By default colour, unless all pictures are grey."""

    def every_row(self) -> Rows:
        """List the pictures and read their sizes. Raises DataUnavailable."""
        if not self.place.is_dir():
            raise DataUnavailable(f"{self.place} is not a folder")
        files = sorted(path for path in self.place.glob("*/*") if path.suffix.lower() in FORMATS)
        if not files:
            raise DataUnavailable(f"{self.place} has no pictures in LABEL/*.png, *.jpg or *.webp")
        classes, labels = Classes.named([path.parent.name for path in files])
        y_N = np.array([labels[path.parent.name] for path in files], np.int64)
        sizes, grey = _looked_at(files)
        if self.size is None and len(sizes) > 1:
            few = ", ".join(f"{height}×{width}" for height, width in sorted(sizes)[:3])
            raise DataUnavailable(
                f"{self.place} has pictures of {len(sizes)} sizes ({few}{', …' if len(sizes) > 3 else ''}):"
                " give one to scale them to, such as size: [64, 64]"
            )
        height, width = self.size or next(iter(sizes))
        channels = self.channels or (1 if grey else 3)

        def read(rows: Integers) -> Pixels:
            return np.stack([_pixels(files[row], channels, (height, width)) for row in rows])

        return Rows(y_N, (channels, height, width), classes, read)


def _looked_at(files: list[Path]) -> tuple[set[tuple[int, int]], bool]:
    """Return the sizes of the pictures, upright, and whether all are grey; only headers are read."""
    sizes, grey = set(), True
    for path in files:
        with _opened(path) as picture:
            turned = picture.getexif().get(0x0112, 1) >= 5  # orientation: by 90 or 270 degrees
            sizes.add((picture.width, picture.height) if turned else (picture.height, picture.width))
            grey = grey and picture.mode in {"1", "L", "LA", "I", "I;16"}
    return sizes, grey


def _pixels(path: Path, channels: int, size: tuple[int, int]) -> Pixels:
    try:
        with _opened(path) as picture:
            picture.draft(None, (2 * size[1], 2 * size[0]))  # JPEG decodes at a fraction of its size
            return upright_pixels(picture, channels, size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataUnavailable(f"{path} cannot be read: {error}") from error


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path, formats=[FORMATS[path.suffix.lower()]])
    except UnidentifiedImageError as error:
        raise DataUnavailable(f"{path} is not a {FORMATS[path.suffix.lower()]}") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataUnavailable(f"{path} cannot be read: {error}") from error
