"""The contract between producers and the service: one sample is one Kafka record.

The value is the image, either ``image/png`` or raw pixels; everything else is headers:

=================  ==========================  ==========================================
header             example                     meaning
=================  ==========================  ==========================================
``content-type``   ``image/png``               or ``application/octet-stream``: raw pixels
``label``          ``3``                       the class, a decimal number
``dtype``          ``uint8``                   raw pixels only
``shape``          ``1,28,28``                 raw pixels only: channels, height, width
``segment``        ``mnist``                   optional: ground truth for evaluation only
``lethe-version``  ``1``                       optional: a record without it is version 1
=================  ==========================  ==========================================

Other headers (CloudEvents' ``ce_*``, trace ids) are ignored. The module imports neither
torch nor kafka, so that a producer can be small.
"""

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import Field

from service.errors import MalformedRecord
from service.section import Section

__all__ = [
    "PNG",
    "RAW",
    "Headers",
    "Labels",
    "Layout",
    "Pixels",
    "Reason",
    "Sample",
    "decode",
    "decode_pixels",
    "encode",
]

PNG: Final = "image/png"
RAW: Final = "application/octet-stream"
VERSION: Final = b"1"

_PNG_TYPE: Final = PNG.encode()
_RAW_TYPE: Final = RAW.encode()

Headers = Sequence[tuple[str, bytes | None]]
Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


class Reason(StrEnum):
    """Why a record is not a sample; the label of ``lethe_samples_dead_lettered_total``."""

    NULL_VALUE = "null_value"
    OVERSIZED = "oversized"
    MISSING_HEADER = "missing_header"
    BAD_HEADER = "bad_header"
    UNSUPPORTED_VERSION = "unsupported_version"
    CONTENT_TYPE = "content_type"
    UNDECODABLE = "undecodable"
    WRONG_SHAPE = "wrong_shape"
    WRONG_DTYPE = "wrong_dtype"
    LABEL_OUT_OF_RANGE = "label_out_of_range"


class Layout(Section):
    """What a sample of this deployment looks like; the same for every record of a topic."""

    channels: int = Field(default=1, ge=1, le=4)
    """Colour planes: 1 is grey, 3 is RGB."""
    height: int = Field(default=28, ge=1, le=4096)
    """Pixels from top to bottom."""
    width: int = Field(default=28, ge=1, le=4096)
    """Pixels from left to right."""
    classes: int = Field(default=10, ge=2, le=10_000)
    """Labels run from 0 to classes − 1."""
    max_bytes: int = Field(default=1 << 20, ge=1)
    """A value longer than this is dead-lettered unread."""

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return (self.channels, self.height, self.width)

    @cached_property
    def size(self) -> int:
        """Bytes of one sample's pixels."""
        return self.channels * self.height * self.width

    @cached_property
    def header(self) -> bytes:
        """The ``shape`` header of a sample of this layout."""
        return ",".join(map(str, self.shape)).encode()


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image.

    ``pixels`` is uint8 of shape [C, H, W]; after `decode` of raw pixels it is a view of
    the record's own bytes, so whoever keeps it keeps the record.
    """

    pixels: Pixels
    label: int
    segment: str | None = None


def encode(sample: Sample, content_type: str = RAW) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Return the value and the headers of the record that carries ``sample``.

    Raises ValueError for a content type other than `PNG` and `RAW`, and for PNG with a
    number of channels other than 1 or 3.
    """
    headers = [("content-type", content_type.encode()), ("label", str(sample.label).encode())]
    if content_type == RAW:
        value = sample.pixels.tobytes()
        shape = ",".join(map(str, sample.pixels.shape)).encode()
        headers += [("dtype", sample.pixels.dtype.name.encode()), ("shape", shape)]
    elif content_type == PNG:
        value = _encode_png(sample.pixels)
    else:
        raise ValueError(f"content type {content_type!r}: a sample travels as {PNG} or {RAW}")
    if sample.segment is not None:
        headers.append(("segment", sample.segment.encode()))
    return value, headers


def decode(value: bytes | None, headers: Headers, layout: Layout) -> Sample:
    """Return the sample that a record carries.

    Raises MalformedRecord, with a `Reason`, for everything that is not a sample of
    ``layout``; no other exception leaves this function, whatever the bytes are.
    """
    if value is None:
        raise MalformedRecord(Reason.NULL_VALUE, "the record has no value")
    if len(value) > layout.max_bytes:
        raise MalformedRecord(Reason.OVERSIZED, f"{len(value)} bytes, at most {layout.max_bytes} are taken")
    by_name = dict(headers)
    if by_name.get("lethe-version", VERSION) != VERSION:
        raise MalformedRecord(Reason.UNSUPPORTED_VERSION, f"lethe-version {_shown(by_name['lethe-version'])}")
    label = _label(_required(by_name, "label"), layout)
    pixels = decode_pixels(value, by_name, layout)
    return Sample(pixels, label, _segment(by_name.get("segment")))


def decode_pixels(value: bytes, headers: Mapping[str, bytes | None], layout: Layout) -> Pixels:
    """Return the image alone, uint8 of shape [C, H, W], of a value no longer than ``layout.max_bytes``.

    Raises MalformedRecord, as `decode` does.
    """
    content_type = _required(headers, "content-type")
    if content_type == _RAW_TYPE:
        return _decode_raw(value, headers, layout)
    if content_type == _PNG_TYPE:
        return _decode_png(value, layout)
    raise MalformedRecord(Reason.CONTENT_TYPE, f"{_shown(content_type)}: {PNG} and {RAW} are understood")


def _required(headers: Mapping[str, bytes | None], name: str) -> bytes:
    value = headers.get(name)
    if value is None:
        raise MalformedRecord(Reason.MISSING_HEADER, f"there is no {name} header")
    return value


def _label(header: bytes, layout: Layout) -> int:
    # isdigit refuses signs, spaces and underscores, all of which int() would take
    if not header.isdigit() or len(header) > 9:
        raise MalformedRecord(Reason.BAD_HEADER, f"label {_shown(header)} is not a decimal number")
    label = int(header)
    if label >= layout.classes:
        raise MalformedRecord(
            Reason.LABEL_OUT_OF_RANGE, f"label {label}, at most {layout.classes - 1} is taken"
        )
    return label


def _segment(header: bytes | None) -> str | None:
    if header is None:
        return None
    try:
        name = header.decode()
    except UnicodeDecodeError as error:
        raise MalformedRecord(Reason.BAD_HEADER, f"segment {_shown(header)} is not UTF-8") from error
    if not 0 < len(name) <= 64:  # it names metrics and files
        raise MalformedRecord(Reason.BAD_HEADER, f"segment of {len(name)} characters, 1 to 64 are taken")
    return name


def _decode_raw(value: bytes, headers: Mapping[str, bytes | None], layout: Layout) -> Pixels:
    dtype = _required(headers, "dtype")
    if dtype != b"uint8":
        raise MalformedRecord(Reason.WRONG_DTYPE, f"dtype {_shown(dtype)}, uint8 is taken")
    shape = _required(headers, "shape")
    if shape != layout.header:
        raise MalformedRecord(Reason.WRONG_SHAPE, f"shape {_shown(shape)}, {layout.header.decode()} is taken")
    if len(value) != layout.size:
        raise MalformedRecord(
            Reason.WRONG_SHAPE, f"{len(value)} bytes, {layout.size} make shape {shape.decode()}"
        )
    return np.frombuffer(value, np.uint8).reshape(layout.shape)


def _decode_png(value: bytes, layout: Layout) -> Pixels:
    try:
        # the size is known from the header alone: a bomb is refused before it is inflated
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(value), formats=["PNG"]) as image,
        ):
            mode, width, height = image.mode, image.width, image.height
            if (height, width) != (layout.height, layout.width):
                raise MalformedRecord(
                    Reason.WRONG_SHAPE, f"PNG of {height}×{width}, {layout.height}×{layout.width} is taken"
                )
            # Pillow calls 16 bits a channel RGB, and 2 bits L, as well: only the packing tells
            packing = str(image.tile[0].args)
            if ";" in packing:
                raise MalformedRecord(Reason.WRONG_DTYPE, f"PNG of {packing}, 8 bits a channel are taken")
            wanted = _PNG_MODES.get(layout.channels, "none")
            if mode != wanted:
                raise MalformedRecord(Reason.WRONG_SHAPE, f"PNG of mode {mode}, {wanted} is taken")
            pixels = np.asarray(image, np.uint8)
    except MalformedRecord:
        raise
    except Exception as error:  # noqa: BLE001 - Pillow raises many kinds; each means the same here
        raise MalformedRecord(
            Reason.UNDECODABLE, f"not a PNG that can be read ({type(error).__name__})"
        ) from None
    if layout.channels == 1:
        return pixels.reshape(layout.shape)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _encode_png(pixels: Pixels) -> bytes:
    channels = pixels.shape[0]
    if channels not in _PNG_MODES:
        raise ValueError(f"{channels} channels: a PNG sample has 1 or 3")
    plane = pixels[0] if channels == 1 else pixels.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(plane)).save(buffer, format="PNG")
    return buffer.getvalue()


_PNG_MODES: Final = {1: "L", 3: "RGB"}


def _shown(header: bytes | None) -> str:
    """Return a header for an error message: short, printable, whatever was sent."""
    return "without a value" if header is None else ascii(header[:32])[1:]
