"""The wire format: how a sample is encoded as a Kafka record.

The record's value is the image: PNG, JPEG, WebP, or raw pixels; or a vector, as raw numbers. Everything else
is in headers:

=================  ==========================  ==========================================
header             example                     meaning
=================  ==========================  ==========================================
``content-type``   ``image/png``               or ``image/jpeg``, ``image/webp``, and
                                               ``application/octet-stream`` for raw values
``label``          ``3``                       class, as a decimal number, or as a name if the
                                               deployment names its classes
``dtype``          ``uint8``                   for raw pixels; ``float32`` for a vector
``shape``          ``1,28,28``                 for raw pixels: channels, height, width; for a vector, its
                                               length
``segment``        ``mnist``                   optional: the segment, for evaluation only
``lethe-version``  ``1``                       optional: 1 if it is missing
=================  ==========================  ==========================================

A topic holds images of one shape or vectors of one length: `Layout`. A deployment chooses the formats that it
accepts; by default these are PNG and raw pixels. A PNG is validated completely, see `lethe.wire.png`. A
vector is raw: float32, little-endian, every number finite. Other headers, such as CloudEvents' ``ce_*`` and
trace ids, are ignored. The module imports neither torch nor kafka, so that producers stay small.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, Self, cast

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from lethe.errors import MalformedRecord
from lethe.models import Section
from lethe.wire.class_names import ClassNames
from lethe.wire.dead_letter_reasons import Reason
from lethe.wire.fitting import Fit
from lethe.wire.jpeg import decode_jpeg
from lethe.wire.png import decode_png, encode_png
from lethe.wire.webp import decode_webp

__all__ = [
    "CONTENT_TYPES",
    "JPEG",
    "PNG",
    "RAW",
    "UNLABELLED",
    "WEBP",
    "Format",
    "Headers",
    "Labels",
    "Layout",
    "Pixels",
    "Reason",
    "Sample",
    "decode",
    "decode_as",
    "decode_pixels",
    "encode",
    "format_of",
]

PNG: Final = "image/png"
RAW: Final = "application/octet-stream"
JPEG: Final = "image/jpeg"
WEBP: Final = "image/webp"
VERSION: Final = b"1"
_LITTLE_ENDIAN: Final = np.dtype("<f4")
UNLABELLED: Final = -1
"""The label of a sample without one."""

Format = Literal["png", "jpeg", "webp", "raw"]
CONTENT_TYPES: Final[dict[Format, str]] = {"png": PNG, "jpeg": JPEG, "webp": WEBP, "raw": RAW}
"""Content type by format."""

Headers = Sequence[tuple[str, bytes | None]]
Pixels = npt.NDArray[np.uint8 | np.float32]
"""What samples consist of: the pixels of images, uint8, or the numbers of vectors, float32."""
Labels = npt.NDArray[np.int64]


class Layout(Section):
    """Shape and classes of a sample, the same for every record of a topic.

    A sample is an image, uint8 of ``channels`` × ``height`` × ``width``, or, with ``features``, a vector of
    so many numbers, float32.
    """

    channels: int = Field(default=1, ge=1, le=4)
    """Colour channels of an image: 1 is greyscale, 3 is RGB."""
    height: int = Field(default=28, ge=1, le=4096)
    """Height of an image in pixels."""
    width: int = Field(default=28, ge=1, le=4096)
    """Width of an image in pixels."""
    features: int | None = Field(default=None, ge=1, le=65_536)
    """Numbers of a sample that is a vector. Without it samples are images."""
    classes: int = Field(default=10, ge=2, le=10_000)
    """Number of classes; labels are 0 to classes − 1."""
    max_bytes: int = Field(default=1 << 20, ge=1)
    """Maximum size of a record's value. A longer one is dead-lettered undecoded."""
    formats: str = "png,raw"
    """Accepted formats, separated by commas: png, jpeg, webp, raw."""
    fit: Fit = "refuse"
    """What happens to an image of another kind: refuse dead-letters it; convert makes palettes, transparency,
    16 bits and other colours fit; resize also scales and crops it."""

    @field_validator("formats")
    @classmethod
    def _known(cls, formats: str) -> str:
        names = [name.strip() for name in formats.split(",")]
        if unknown := sorted({name or "nothing" for name in names} - set(CONTENT_TYPES)):
            raise ValueError(f"{', '.join(unknown)}: the formats are {', '.join(CONTENT_TYPES)}")
        return ",".join(name for name in CONTENT_TYPES if name in names)

    @model_validator(mode="after")
    def _image_or_vector(self) -> Self:
        if self.features is None:
            return self
        sides = ("channels", "height", "width")
        if given := [name for name in sides if getattr(self, name) != type(self).model_fields[name].default]:
            raise ValueError(
                f"sample.features is for vectors, {' and '.join(f'sample.{name}' for name in given)} for"
                " images: give one or the other"
            )
        if "raw" not in self.formats.split(","):
            raise ValueError(f"sample.formats {self.formats}: vectors (sample.features) are raw")
        return self

    @cached_property
    def accepted(self) -> dict[bytes, Format]:
        """The accepted formats by content type; a vector is raw."""
        names = cast("list[Format]", self.formats.split(",") if self.features is None else ["raw"])
        return {CONTENT_TYPES[name].encode(): name for name in names}

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Channels, height, width; of vectors, the number of features alone."""
        return (self.channels, self.height, self.width) if self.features is None else (self.features,)

    @cached_property
    def dtype(self) -> np.dtype[np.uint8 | np.float32]:
        """The type of a sample's values: uint8 of images, float32 of vectors."""
        return np.dtype(np.uint8 if self.features is None else np.float32)

    @cached_property
    def size(self) -> int:
        """Number of a sample's values."""
        return math.prod(self.shape)

    @cached_property
    def nbytes(self) -> int:
        """Number of bytes of a sample's values."""
        return self.size * self.dtype.itemsize

    @cached_property
    def dtype_header(self) -> bytes:
        """The ``dtype`` header of a sample of this layout."""
        return self.dtype.name.encode()

    @cached_property
    def header(self) -> bytes:
        """The ``shape`` header of a sample of this layout."""
        return ",".join(map(str, self.shape)).encode()


@dataclass(frozen=True, slots=True)
class Sample:
    """A labelled image or vector.

    ``pixels`` is uint8 of shape [C, H, W], or of a vector float32 of shape [F]. After `decode` of raw values
    it is a view of the record's value and keeps that in memory.
    """

    pixels: Pixels
    label: int
    segment: str | None = None
    name: str | None = None
    """The name of its class, where labels are names."""


def encode(sample: Sample, content_type: str = RAW) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Return value and headers of the record that encodes ``sample``.

    Raises ValueError for a content type other than `PNG` and `RAW`, and for a PNG of a vector or of a number
    of channels other than 1 and 3.
    """
    label = sample.name or str(sample.label)
    headers = [("content-type", content_type.encode()), ("label", label.encode())]
    if content_type == RAW:
        value = sample.pixels.astype(sample.pixels.dtype.newbyteorder("<"), copy=False).tobytes()
        shape = ",".join(map(str, sample.pixels.shape)).encode()
        headers += [("dtype", sample.pixels.dtype.name.encode()), ("shape", shape)]
    elif content_type == PNG:
        if sample.pixels.dtype != np.uint8:
            raise ValueError(f"a PNG holds uint8 pixels, not {sample.pixels.dtype}: a vector is {RAW}")
        value = encode_png(cast("npt.NDArray[np.uint8]", sample.pixels))
    else:
        raise ValueError(f"content type {content_type!r} is neither {PNG} nor {RAW}")
    if sample.segment is not None:
        headers.append(("segment", sample.segment.encode()))
    return value, headers


def decode(
    value: bytes | None,
    headers: Headers,
    layout: Layout,
    segments: Collection[str] | None = None,
    names: ClassNames | None = None,
    *,
    unlabelled: bool = False,
    pixels: Callable[[], Pixels] | None = None,
) -> Sample:
    """Return the sample that a record encodes.

    If ``segments`` is given, any other segment name is dropped, so that no unknown text is passed on. With
    ``names``, labels are names; a new one is not added. With ``unlabelled``, the label may be missing:
    `UNLABELLED`. ``pixels`` returns what `decode_pixels` would, where that is decoded elsewhere.

    Raises MalformedRecord, with a `Reason`, for everything that is not a sample of ``layout``; the message
    describes what was expected, never what was sent. No other exception is raised, whatever the bytes are.
    """
    if value is None:
        raise MalformedRecord(Reason.NULL_VALUE, "the record has no value")
    if len(value) > layout.max_bytes:
        raise MalformedRecord(Reason.OVERSIZED, f"{len(value)} bytes, the maximum is {layout.max_bytes}")
    by_name = dict(headers)
    if by_name.get("lethe-version", VERSION) != VERSION:
        raise MalformedRecord(Reason.UNSUPPORTED_VERSION, "lethe-version is not 1")
    given, name = by_name.get("label"), None
    if given is None and unlabelled:
        label = UNLABELLED
    elif given is None or names is None:
        label = _label(_required(by_name, "label"), layout)
    else:
        label, name = names.find(given)
    found = decode_pixels(value, by_name, layout) if pixels is None else pixels()
    segment = _segment(by_name.get("segment"))
    return Sample(found, label, segment if segments is None or segment in segments else None, name)


def decode_pixels(value: bytes, headers: Mapping[str, bytes | None], layout: Layout) -> Pixels:
    """Return the image or vector in a value of at most ``layout.max_bytes`` bytes, as in `Sample`.

    Raises MalformedRecord, as `decode` does.
    """
    return decode_as(format_of(headers, layout), value, headers, layout)


def format_of(headers: Mapping[str, bytes | None], layout: Layout) -> Format:
    """Return the format of a value. Raises MalformedRecord for one that ``layout`` does not accept."""
    given = _required(headers, "content-type")
    accepted = layout.accepted
    kind = accepted.get(given) or accepted.get(given.partition(b";")[0].strip().lower())
    if kind is None:
        names = ", ".join(name.decode() for name in accepted)
        raise MalformedRecord(Reason.CONTENT_TYPE, f"content-type is not one of {names}")
    return kind


def decode_as(kind: Format, value: bytes, headers: Mapping[str, bytes | None], layout: Layout) -> Pixels:
    """Do what `decode_pixels` does, for a value of this format, whether ``layout`` accepts that or not."""
    if kind == "raw":
        return _decode_raw(value, headers, layout)
    shape = (layout.channels, layout.height, layout.width)
    match kind:
        case "png":
            return decode_png(value, shape, layout.fit)
        case "jpeg":
            return decode_jpeg(value, shape, layout.fit)
        case "webp":
            return decode_webp(value, shape, layout.fit)


def _required(headers: Mapping[str, bytes | None], name: str) -> bytes:
    value = headers.get(name)
    if value is None:
        raise MalformedRecord(Reason.MISSING_HEADER, f"header {name} is missing")
    return value


def _label(header: bytes, layout: Layout) -> int:
    # isdigit rejects signs, spaces and underscores, which int() accepts
    if not header.isdigit() or len(header) > 9:
        raise MalformedRecord(Reason.BAD_HEADER, "label is not a decimal number")
    label = int(header)
    if label >= layout.classes:
        raise MalformedRecord(Reason.LABEL_OUT_OF_RANGE, f"label is above {layout.classes - 1}")
    return label


def _segment(header: bytes | None) -> str | None:
    if header is None:
        return None
    try:
        name = header.decode()
    except UnicodeDecodeError:
        raise MalformedRecord(Reason.BAD_HEADER, "segment is not UTF-8") from None
    if not 0 < len(name) <= 64:  # it names metrics and files
        raise MalformedRecord(Reason.BAD_HEADER, "segment does not have 1 to 64 characters")
    return name


def _decode_raw(value: bytes, headers: Mapping[str, bytes | None], layout: Layout) -> Pixels:
    dtype = _required(headers, "dtype")
    if dtype != layout.dtype_header:
        raise MalformedRecord(Reason.WRONG_DTYPE, f"dtype is not {layout.dtype_header.decode()}")
    shape = _required(headers, "shape")
    if shape != layout.header:
        raise MalformedRecord(Reason.WRONG_SHAPE, f"shape is not {layout.header.decode()}")
    if len(value) != layout.nbytes:
        raise MalformedRecord(
            Reason.WRONG_SHAPE, f"{len(value)} bytes, but shape {shape.decode()} has {layout.nbytes}"
        )
    if layout.features is None:
        return np.frombuffer(value, np.uint8).reshape(layout.shape)
    vector = np.frombuffer(value, _LITTLE_ENDIAN)
    if not np.isfinite(vector).all():
        raise MalformedRecord(Reason.NOT_FINITE, "not every number is finite")
    return vector
