"""Decodes JPEG images with bounded cost; metadata is never read.

JPEG has no checksums: a changed byte of the image data goes unnoticed if the file can still be decoded. What
can be verified is verified: the markers, their order and lengths, and that the file ends where the image does
(ITU-T T.81). Metadata segments are removed before Pillow sees the file.
"""

import io
import re
import struct
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL.JpegImagePlugin import JpegImageFile

from lethe.errors import MalformedRecord
from lethe.wire.dead_letter_reasons import Reason
from lethe.wire.fitting import Fit, as_pixels, check_mode, check_size

__all__ = ["decode_jpeg"]

START: Final = b"\xff\xd8"
BASE_SEGMENTS: Final = 64
"""Segments that any file may have, plus one for each KiB of it."""
MOST_SCANS: Final = 32
"""A progressive image has about ten; every further one costs another pass over all pixels."""
_FRAMES: Final = {0xC0, 0xC1, 0xC2}
"""Start-of-frame markers of the processes that Pillow decodes: baseline, extended and progressive."""
_OTHER_FRAMES: Final = {0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_SCAN: Final = 0xDA
_END: Final = 0xD9
_KEPT: Final = {0xC4, 0xDB, 0xDD, 0xE0, 0xEE}
"""Markers of tables, and of the two APP segments that say how colours are stored."""
_MODES: Final = {1: "L", 3: "RGB", 4: "CMYK"}
"""Pillow's mode by number of components."""
_MARKER: Final = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
"""A marker after image data, in which 0xFF is followed by 0 or by a restart marker."""
_FRAME: Final = struct.Struct(">BHHB")

Pixels = npt.NDArray[np.uint8]


class _Frame(NamedTuple):
    bits: int
    height: int
    width: int
    components: int


def decode_jpeg(value: bytes, shape: tuple[int, int, int], fit: Fit) -> Pixels:
    """Return the image, uint8 of ``shape`` [C, H, W].

    Raises MalformedRecord for a value that is not a JPEG, is inconsistent, has another shape than ``fit``
    allows, or too many segments or scans.
    """
    frame, stripped = _parsed(value)
    if frame.bits != 8:
        raise MalformedRecord(Reason.WRONG_DTYPE, f"JPEG of {frame.bits} bits per channel, expected 8")
    if frame.components not in _MODES or not (frame.height and frame.width):
        raise MalformedRecord(Reason.UNDECODABLE, "not a valid JPEG: frame header")
    check_size("JPEG", frame.height, frame.width, shape, fit)
    check_mode("JPEG", _MODES[frame.components], shape, fit)
    try:
        picture = JpegImageFile(io.BytesIO(stripped))
        picture.draft(None, (2 * shape[2], 2 * shape[1]))  # a larger one is decoded at a fraction of its size
        picture.load()
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error):
        raise _damaged("its image data cannot be decoded") from None
    return as_pixels(picture, shape)


def _parsed(value: bytes) -> tuple[_Frame, bytes]:
    """Return the frame header, and the file without metadata, after verifying every segment."""
    if not value.startswith(START):
        raise MalformedRecord(Reason.UNDECODABLE, "not a JPEG: wrong start")
    frame: _Frame | None = None
    kept, scans, place = [START], 0, len(START)
    most = BASE_SEGMENTS + len(value) // 1024
    for _ in range(most):
        found = _MARKER.match(value, place)
        if found is None:
            raise _damaged("a marker is missing")
        marker, begin, place = found[0][-1], place, found.end()
        if marker == _END:
            if not scans or place != len(value):
                raise _damaged("it has no image data, or bytes after its end")
            kept.append(value[begin:])
            return _known(frame), b"".join(kept)
        length = int.from_bytes(value[place : place + 2])
        content, place = place + 2, place + length
        if length < 2 or place > len(value):
            raise _damaged("a segment is longer than the file")
        if marker in _OTHER_FRAMES:
            raise MalformedRecord(Reason.UNDECODABLE, "a JPEG that is neither baseline nor progressive")
        if marker in _FRAMES:
            if frame is not None or length < 2 + _FRAME.size:
                raise _damaged("its frame header is wrong")
            frame = _Frame(*_FRAME.unpack_from(value, content))
        elif marker == _SCAN:
            _known(frame)
            scans += 1
            if scans > MOST_SCANS:
                raise MalformedRecord(Reason.TOO_COSTLY, f"JPEG has more than {MOST_SCANS} scans")
            data = _MARKER.search(value, place)
            if data is None:
                raise _damaged("it ends before its end marker")
            place = data.start()
        elif marker not in _KEPT:
            continue
        kept.append(value[begin:place])
    raise MalformedRecord(Reason.TOO_COSTLY, f"JPEG of {len(value)} bytes has more than {most} segments")


def _known(frame: _Frame | None) -> _Frame:
    if frame is None:
        raise _damaged("its frame header is missing")
    return frame


def _damaged(what: str) -> MalformedRecord:
    return MalformedRecord(Reason.DAMAGED, f"JPEG: {what}")
