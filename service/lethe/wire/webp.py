"""Decodes WebP images with bounded cost; metadata is never read.

The container is verified (lengths and chunks, after RFC 9649) before anything is decoded, because libwebp
reserves memory for the size that a file announces. Only the chunks of the image itself are decoded.
"""

import io
import struct
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL.WebPImagePlugin import WebPImageFile

from lethe.errors import MalformedRecord
from lethe.wire.dead_letter_reasons import Reason
from lethe.wire.fitting import Fit, as_pixels, check_mode, check_size

__all__ = ["decode_webp"]

MOST_CHUNKS: Final = 64
_HEAD: Final = struct.Struct("<4sI")
_ALPHA: Final = 0x10
_ANIMATION: Final = 0x02  # flags of the extended header
_LOSSY_START: Final = b"\x9d\x01\x2a"
_LOSSLESS_START: Final = 0x2F

Pixels = npt.NDArray[np.uint8]


class _Image(NamedTuple):
    height: int
    width: int
    alpha: bool


def decode_webp(value: bytes, shape: tuple[int, int, int], fit: Fit) -> Pixels:
    """Return the image, uint8 of ``shape`` [C, H, W].

    Raises MalformedRecord for a value that is not a still WebP, is inconsistent, has another shape than
    ``fit`` allows, or too many chunks.
    """
    image, stripped = _parsed(value)
    check_size("WebP", image.height, image.width, shape, fit)
    check_mode("WebP", "RGBA" if image.alpha else "RGB", shape, fit)
    try:
        picture = WebPImageFile(io.BytesIO(stripped))
        if picture.size != (image.width, image.height):
            raise _damaged("its canvas has another size than its image")
        picture.load()
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error):
        raise _damaged("its image data cannot be decoded") from None
    return as_pixels(picture, shape)


def _parsed(value: bytes) -> tuple[_Image, bytes]:
    """Return what the image is, and a file of its chunks alone, after verifying all chunks."""
    if value[:4] != b"RIFF" or value[8:12] != b"WEBP":
        raise MalformedRecord(Reason.UNDECODABLE, "not a WebP: wrong signature")
    if int.from_bytes(value[4:8], "little") + 8 != len(value):
        raise _damaged("it has more or fewer bytes than it announces")
    chunks: dict[bytes, bytes] = {}
    place = 12
    for _ in range(MOST_CHUNKS):
        if place == len(value):
            return _image(chunks)
        if place + _HEAD.size > len(value):
            raise _damaged("it ends within a chunk")
        kind, length = _HEAD.unpack_from(value, place)
        begin, place = place + _HEAD.size, place + _HEAD.size + length + length % 2
        if place > len(value):
            raise _damaged("a chunk is longer than the file")
        if kind in {b"ANIM", b"ANMF"}:
            raise MalformedRecord(Reason.UNDECODABLE, "an animated WebP, not a still image")
        if kind in {b"VP8X", b"VP8 ", b"VP8L", b"ALPH"}:
            if kind in chunks:
                raise _damaged("it has two images")
            chunks[kind] = value[begin : begin + length]
    raise MalformedRecord(Reason.TOO_COSTLY, f"WebP has more than {MOST_CHUNKS} chunks")


def _image(chunks: dict[bytes, bytes]) -> tuple[_Image, bytes]:
    if (b"VP8 " in chunks) == (b"VP8L" in chunks):
        raise _damaged("it has no image, or two")
    image = _lossy(chunks[b"VP8 "]) if b"VP8 " in chunks else _lossless(chunks[b"VP8L"])
    kept: list[bytes] = [kind for kind in (b"VP8 ", b"VP8L") if kind in chunks]
    if (extended := chunks.get(b"VP8X")) is not None:
        if len(extended) != 10 or extended[0] & _ANIMATION:
            raise MalformedRecord(Reason.UNDECODABLE, "not a still WebP: extended header")
        canvas = (1 + int.from_bytes(extended[at : at + 3], "little") for at in (7, 4))
        if tuple(canvas) != (image.height, image.width):
            raise _damaged("its canvas has another size than its image")
        if b"ALPH" in chunks and b"VP8 " in chunks:
            image = image._replace(alpha=True)
            kept = [b"VP8X", b"ALPH", b"VP8 "]
            chunks = chunks | {b"VP8X": bytes([_ALPHA]) + extended[1:]}
    body = b"WEBP" + b"".join(_chunk(kind, chunks[kind]) for kind in kept)
    return image, _chunk(b"RIFF", body)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return _HEAD.pack(kind, len(content)) + content + bytes(len(content) % 2)


def _lossy(data: bytes) -> _Image:
    if len(data) < 10 or data[0] & 1 or data[3:6] != _LOSSY_START:  # the lowest bit: not a key frame
        raise _damaged("its frame header is wrong")
    width, height = struct.unpack_from("<HH", data, 6)
    return _sized(height & 0x3FFF, width & 0x3FFF, alpha=False)


def _lossless(data: bytes) -> _Image:
    if len(data) < 5 or data[0] != _LOSSLESS_START:
        raise _damaged("its frame header is wrong")
    bits = int.from_bytes(data[1:5], "little")
    return _sized(1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF), alpha=bool(bits >> 28 & 1))


def _sized(height: int, width: int, alpha: bool) -> _Image:
    if not (height and width):
        raise MalformedRecord(Reason.UNDECODABLE, "not a valid WebP: an image of no pixels")
    return _Image(height, width, alpha)


def _damaged(what: str) -> MalformedRecord:
    return MalformedRecord(Reason.DAMAGED, f"WebP: {what}")
