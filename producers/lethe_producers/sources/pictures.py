"""Turns pictures of any size and mode into images of one shape."""

from typing import Final

import numpy as np
from PIL import Image, ImageOps

from lethe.wire import Pixels

__all__ = ["Size", "as_pixels"]

Size = tuple[int, int]
"""Height and width in pixels."""

_MODES: Final = {1: "L", 3: "RGB"}


def as_pixels(picture: Image.Image, channels: int, size: Size | None = None) -> Pixels:
    """Return a picture as uint8 [C, H, W], upright, with ``channels`` 1 (grey) or 3 (RGB).

    With ``size`` it is scaled to cover that size, and its middle is cut out. Transparent parts become white.
    """
    upright = ImageOps.exif_transpose(picture)
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    plane = _eight_bits(upright).convert(_MODES[channels])
    if size is not None and (plane.height, plane.width) != size:
        plane = ImageOps.fit(plane, (size[1], size[0]), Image.Resampling.LANCZOS)
    pixels = np.asarray(plane)
    return pixels[np.newaxis] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Return 16-bit greyscale as 8 bits; Pillow's own conversion would clip it at 255."""
    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray((np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
