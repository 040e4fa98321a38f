"""Fits decoded pictures to the shape of a stream: by size, by mode, or not at all."""

from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from lethe.errors import MalformedRecord
from lethe.wire.dead_letter_reasons import Reason

__all__ = ["LARGEST_SIDE", "MODES", "Fit", "as_pixels", "check_mode", "check_size"]

Fit = Literal["refuse", "convert", "resize"]
"""What happens to an image of another mode or size: it is malformed; its mode is converted and another size
is malformed; or it is converted and scaled."""

LARGEST_SIDE: Final = 4096
"""Largest height and width in pixels that is decoded, as in Layout."""
MODES: Final = {1: "L", 3: "RGB"}
"""Pillow's mode by number of channels."""

Shape = tuple[int, int, int]
Pixels = npt.NDArray[np.uint8]


def check_size(kind: str, height: int, width: int, shape: Shape, fit: Fit) -> None:
    """Raise MalformedRecord unless an image of this size can be fitted to ``shape`` [C, H, W]."""
    small = max(height, width) <= LARGEST_SIDE
    if not small or (fit != "resize" and (height, width) != shape[1:]):
        given = f"{height}×{width}" if small else "another size"
        raise MalformedRecord(Reason.WRONG_SHAPE, f"{kind} of {given}, expected {shape[1]}×{shape[2]}")


def check_mode(kind: str, mode: str, shape: Shape, fit: Fit) -> None:
    """Raise MalformedRecord unless an image of Pillow's ``mode`` can be fitted to ``shape`` [C, H, W]."""
    wanted = MODES.get(shape[0], "none")
    if wanted == "none" or (fit == "refuse" and mode != wanted):
        raise MalformedRecord(Reason.WRONG_SHAPE, f"{kind} of mode {mode}, expected {wanted}")


def as_pixels(picture: Image.Image, shape: Shape) -> Pixels:
    """Return a picture as uint8 of ``shape`` [C, H, W]; C is 1 (grey) or 3 (RGB).

    It is scaled to cover the size, and its middle is cut out. Transparent parts become white.
    """
    channels, height, width = shape
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    plane = _eight_bits(picture).convert(MODES[channels])
    if (plane.height, plane.width) != (height, width):
        plane = ImageOps.fit(plane, (width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(plane)
    return pixels[np.newaxis] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Return 16-bit greyscale as 8 bits; Pillow's own conversion would clip it at 255."""
    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray((np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
