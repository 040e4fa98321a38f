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

from lethe.errors import MalformedRecord
from lethe.wire.dead_letter_reasons import Reason

__all__ = ["decode_png", "encode_png"]

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
BASE_CHUNKS: Final = 64
"""Chunks that any file may have, plus one for each KiB of it; libpng writes chunks of 8 KiB."""

Pixels = npt.NDArray[np.uint8]

_MODES: Final = {1: "L", 3: "RGB"}
"""Pillow's mode by number of channels."""
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
_LARGEST_SIDE: Final = 4096  # as in Layout; a larger size is not quoted
_HEAD: Final = struct.Struct(">I4s")
_CHECKSUM: Final = struct.Struct(">I")
_IHDR: Final = struct.Struct(">IIBBBBB")
_STORED: Final = struct.Struct("<BHH")
_MOST_STORED: Final = 0xFFFF  # bytes of a stored (uncompressed) block
_ANCILLARY: Final = 0x20  # this bit of a chunk type's first letter makes it lower case


def decode_png(value: bytes, shape: tuple[int, int, int]) -> Pixels:
    """Return the image, uint8 of ``shape`` [C, H, W].

    Raises MalformedRecord for a value that is not a PNG, is inconsistent, has another shape or depth, or has
    too many chunks.
    """
    header, data = _chunks(value)
    mode, interlaced = _check(header, shape)
    channels, height, width = shape
    rows = _inflated(data, _size(height, width, channels, interlaced))
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
    if channels not in _MODES:
        raise ValueError(f"{channels} channels: a PNG sample has 1 or 3")
    plane = pixels[0] if channels == 1 else pixels.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(plane)).save(buffer, format="PNG")
    return buffer.getvalue()


def _chunks(value: bytes) -> tuple[bytes, bytes]:
    """Return the content of IHDR, and that of all IDAT chunks joined, after verifying every chunk."""
    if not value.startswith(SIGNATURE):
        raise MalformedRecord(Reason.UNDECODABLE, "not a PNG: wrong signature")
    header, data, ended = b"", [], False  # IDAT chunks are consecutive
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
            return header, data[0] if len(data) == 1 else b"".join(data)
        elif kind != b"PLTE" and not (kind.isalpha() and kind[0] & _ANCILLARY):
            raise _damaged("a chunk is out of order, or critical and unknown")
    raise MalformedRecord(Reason.TOO_COSTLY, f"PNG of {len(value)} bytes has more than {most} chunks")


def _check(header: bytes, shape: tuple[int, int, int]) -> tuple[str, bool]:
    """Return Pillow's mode and whether the image is interlaced, after checking shape and depth."""
    width, height, depth, color, compression, filtering, interlacing = _IHDR.unpack(header)
    if not (width and height and depth in _DEPTHS.get(color, ())) or compression or filtering:
        raise MalformedRecord(Reason.UNDECODABLE, "not a valid PNG: IHDR")
    if interlacing > 1:
        raise MalformedRecord(Reason.UNDECODABLE, "not a valid PNG: interlacing")
    if (height, width) != shape[1:]:
        given = f"{height}×{width}" if max(height, width) <= _LARGEST_SIDE else "another size"
        raise MalformedRecord(Reason.WRONG_SHAPE, f"PNG of {given}, expected {shape[1]}×{shape[2]}")
    if depth != 8:
        raise MalformedRecord(Reason.WRONG_DTYPE, f"PNG of {depth} bits per channel, expected 8")
    mode, wanted = _COLORS[color], _MODES.get(shape[0], "none")
    if mode != wanted:
        raise MalformedRecord(Reason.WRONG_SHAPE, f"PNG of mode {mode}, expected {wanted}")
    return mode, bool(interlacing)


def _size(height: int, width: int, channels: int, interlaced: bool) -> int:
    """Return the number of bytes of all rows before compression: a filter byte and the pixels of each."""
    if not interlaced:
        return height * (1 + width * channels)
    size = 0
    for row, column, down, right in _ADAM7:
        rows, columns = len(range(row, height, down)), len(range(column, width, right))
        size += rows * (1 + columns * channels) if columns else 0
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
