"""Decodes PNG images strictly and with bounded cost.

Decoders made for viewing tolerate damage. For training that is wrong: with a bad checksum or missing rows the
pixels differ from those that were sent. So every checksum, the order of the chunks and the number of rows are
verified before decoding, after ISO/IEC 15948:2004 (PNG, second edition). No more image data is inflated than
the header declares, and ancillary chunks, such as comments and profiles, are never inflated.
"""

import io
import struct
import zlib
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from lethe.errors import MalformedRecord
from lethe.wire.dead_letter_reasons import Reason
from lethe.wire.fitting import MODES, Fit, as_pixels, check_mode, check_size

__all__ = ["decode_png", "encode_png"]

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
BASE_CHUNKS: Final = 64
"""Chunks that any file may have, plus one for each KiB of it; libpng writes chunks of 8 KiB."""

Pixels = npt.NDArray[np.uint8]

_COLORS: Final = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
"""Pillow's mode by PNG colour type."""
_DEPTHS: Final = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
"""Valid bits per channel by PNG colour type."""
_ADAM7: Final = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)
"""First row, first column, row step and column step of each pass over an interlaced image."""
_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by PNG colour type."""
_HEAD: Final = struct.Struct(">I4s")
_CHECKSUM: Final = struct.Struct(">I")
_IHDR: Final = struct.Struct(">IIBBBBB")
_STORED: Final = struct.Struct("<BHH")
_MOST_STORED: Final = 0xFFFF  # bytes of a stored (uncompressed) block
_ANCILLARY: Final = 0x20  # this bit of a chunk type's first letter makes it lower case


def decode_png(value: bytes, shape: tuple[int, int, int], fit: Fit = "refuse") -> Pixels:
    """Return the image, uint8 of ``shape`` [C, H, W].

    Raises MalformedRecord for a value that is not a PNG, is inconsistent, has another shape or depth than
    ``fit`` allows, or has too many chunks.
    """
    header, data, colours = _chunks(value)
    exact = _check(header, shape, fit)
    if exact is None:
        return _fitted(header, data, colours, shape)
    mode, interlaced = exact
    channels, height, width = shape
    rows = _inflated(data, _size(height, width, 8 * channels, interlaced))
    try:
        image = Image.frombytes(mode, (width, height), _stored(rows), "zip", mode, interlaced)
    except ValueError:  # the only error left at this point
        raise _damaged("a row has an unknown filter type") from None
    pixels = np.asarray(image)
    if channels == 1:
        return pixels.reshape(shape)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def encode_png(pixels: Pixels) -> bytes:
    """Return a PNG of uint8 [C, H, W]. Raises ValueError for a number of channels other than 1 or 3."""
    channels = pixels.shape[0]
    if channels not in MODES:
        raise ValueError(f"{channels} channels: a PNG sample has 1 or 3")
    plane = pixels[0] if channels == 1 else pixels.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(plane)).save(buffer, format="PNG")
    return buffer.getvalue()


def _chunks(value: bytes) -> tuple[bytes, bytes, list[bytes]]:
    """Return the content of IHDR, that of all IDAT chunks joined, and the chunks PLTE and tRNS.

    Every chunk is verified before.
    """
    if not value.startswith(SIGNATURE):
        raise MalformedRecord(Reason.UNDECODABLE, "not a PNG: wrong signature")
    header, data, ended = b"", [], False  # IDAT chunks are consecutive
    colours: list[bytes] = []
    place, end, most = len(SIGNATURE), len(value), BASE_CHUNKS + len(value) // 1024
    for _ in range(most):
        if end - place < _HEAD.size + _CHECKSUM.size:
            raise _damaged("it ends before its last chunk")
        length, kind = _HEAD.unpack_from(value, place)
        begin, place = place + _HEAD.size, place + _HEAD.size + length
        if place > end - _CHECKSUM.size:
            raise _damaged("a chunk is longer than the file")
        (checksum,) = _CHECKSUM.unpack_from(value, place)
        if zlib.crc32(value[begin - 4 : place]) != checksum:
            raise _damaged("the checksum of a chunk is wrong")
        place += _CHECKSUM.size
        if kind == b"IDAT" and header and not ended:
            data.append(value[begin : place - _CHECKSUM.size])
            continue
        ended = bool(data)
        if kind == b"IHDR" and not header and length == _IHDR.size and begin == len(SIGNATURE) + _HEAD.size:
            header = value[begin : place - _CHECKSUM.size]
        elif not header:
            raise _damaged("it does not begin with IHDR")
        elif kind == b"IEND":
            if length or place != end:
                raise _damaged("there are bytes after its end")
            if not data:
                raise _damaged("it has no image data")
            return header, data[0] if len(data) == 1 else b"".join(data), colours
        elif kind in {b"PLTE", b"tRNS"}:
            colours.append(value[begin - _HEAD.size : place])
        elif not (kind.isalpha() and kind[0] & _ANCILLARY):
            raise _damaged("a chunk is out of order, or critical and unknown")
    raise MalformedRecord(Reason.TOO_COSTLY, f"PNG of {len(value)} bytes has more than {most} chunks")


def _check(header: bytes, shape: tuple[int, int, int], fit: Fit) -> tuple[str, bool] | None:
    """Return Pillow's mode and whether the image is interlaced, or None for an image that has to be fitted.

    Raises MalformedRecord for a header that no PNG has, and for an image that ``fit`` does not allow.
    """
    width, height, depth, color, compression, filtering, interlacing = _IHDR.unpack(header)
    if not (width and height and depth in _DEPTHS.get(color, ())) or compression or filtering:
        raise MalformedRecord(Reason.UNDECODABLE, "not a valid PNG: IHDR")
    if interlacing > 1:
        raise MalformedRecord(Reason.UNDECODABLE, "not a valid PNG: interlacing")
    mode = _COLORS[color]
    if depth == 8 and (height, width) == shape[1:] and mode == MODES.get(shape[0]):
        return mode, bool(interlacing)
    check_size("PNG", height, width, shape, fit)
    if depth != 8 and fit == "refuse":
        raise MalformedRecord(Reason.WRONG_DTYPE, f"PNG of {depth} bits per channel, expected 8")
    check_mode("PNG", mode, shape, fit)
    return None


def _fitted(header: bytes, data: bytes, colours: list[bytes], shape: tuple[int, int, int]) -> Pixels:
    """Return an image of another mode, depth or size, fitted to ``shape``."""
    width, height, depth, color, _, _, interlacing = _IHDR.unpack(header)
    _inflated(data, _size(height, width, depth * _CHANNELS[color], bool(interlacing)))
    chunks = [
        _chunk(b"IHDR", header),
        *colours,
        _chunk(b"IDAT", data),
        _chunk(b"IEND", b""),
    ]
    try:
        picture = PngImageFile(io.BytesIO(SIGNATURE + b"".join(chunks)))
        picture.load()
        return as_pixels(picture, shape)
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error):
        raise _damaged("its image data cannot be decoded") from None


def _chunk(kind: bytes, content: bytes) -> bytes:
    return _HEAD.pack(len(content), kind) + content + _CHECKSUM.pack(zlib.crc32(kind + content))


def _size(height: int, width: int, bits: int, interlaced: bool) -> int:
    """Return the number of bytes of all rows before compression: a filter byte and the pixels of each.

    A pixel has ``bits`` bits.
    """
    if not interlaced:
        return height * (1 + (width * bits + 7) // 8)
    size = 0
    for row, column, down, right in _ADAM7:
        rows, columns = len(range(row, height, down)), len(range(column, width, right))
        size += rows * (1 + (columns * bits + 7) // 8) if columns else 0
    return size


def _inflated(data: bytes, size: int) -> bytes:
    """Return the inflated rows with their filter bytes. Raises MalformedRecord if not ``size`` bytes."""
    inflater = zlib.decompressobj()
    try:
        rows = inflater.decompress(data, size + 1)
    except zlib.error:
        raise _damaged("its image data cannot be inflated") from None
    if len(rows) != size:
        raise _damaged(f"its rows have {'more' if len(rows) > size else 'fewer'} bytes than IHDR declares")
    if not inflater.eof or inflater.unused_data:  # at the end of the stream its checksum was verified
        raise _damaged("its image data does not end with its rows")
    return rows


def _stored(rows: bytes) -> bytes:
    """Return ``rows`` as an uncompressed zlib stream, at little more than the cost of a copy.

    Pillow reverses PNG's filters, but only reads zlib streams.
    """
    blocks: list[bytes | memoryview] = [b"\x78\x01"]
    for begin in range(0, len(rows), _MOST_STORED):
        part = memoryview(rows)[begin : begin + _MOST_STORED]
        last = begin + _MOST_STORED >= len(rows)
        blocks += [_STORED.pack(last, len(part), len(part) ^ 0xFFFF), part]
    return b"".join((*blocks, _CHECKSUM.pack(zlib.adler32(rows))))


def _damaged(what: str) -> MalformedRecord:
    return MalformedRecord(Reason.DAMAGED, f"PNG: {what}")
