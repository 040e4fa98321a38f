"""Turns pictures of files into images: upright, of one shape."""

from PIL import Image, ImageOps

from lethe.wire import Pixels
from lethe.wire.fitting import as_pixels

__all__ = ["upright_pixels"]


def upright_pixels(picture: Image.Image, channels: int, size: tuple[int, int] | None = None) -> Pixels:
    """Return a picture as uint8 [C, H, W], upright, with ``channels`` 1 (grey) or 3 (RGB).

    With ``size``, height and width, it is scaled to cover that size, and its middle is cut out. Transparent
    parts become white.
    """
    upright = ImageOps.exif_transpose(picture)
    return as_pixels(upright, (channels, *(size or (upright.height, upright.width))))
