"""Decodes the samples in the body of a request: one image, raw values, or a batch in JSON.

A batch in JSON is of PNGs in Base64, or of vectors.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lethe.errors import MalformedRecord
from lethe.wire import CONTENT_TYPES, PNG, RAW, Format, Layout, Pixels, decode_as

__all__ = ["HEADERS", "JSON", "MAX_IMAGES", "Headers", "body_schemas", "kinds", "reader"]

MAX_IMAGES: Final = 256
"""Images or vectors in one request."""
JSON: Final = "application/json"
HEADERS: Final = ("content-type", "dtype", "shape")
"""The headers that say how to decode a body."""

Headers = Mapping[str, str | None]
"""Values of `HEADERS`; None or absent if the request has none."""


class Batch(BaseModel):
    """A batch of images, each a PNG in Base64."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: list[str] = Field(min_length=1, max_length=MAX_IMAGES)


class VectorBatch(BaseModel):
    """A batch of vectors, each a list of numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    vectors: list[list[float]] = Field(min_length=1, max_length=MAX_IMAGES)


def kinds(layout: Layout) -> tuple[str, ...]:
    """Return the supported content types: of images PNG, raw pixels, JSON, and what the stream accepts.

    Vectors are raw or in JSON.
    """
    if layout.features is not None:
        return RAW, JSON
    more = [CONTENT_TYPES[name] for name in layout.accepted.values()]
    return tuple(dict.fromkeys((PNG, RAW, JSON, *more)))


def reader(body: bytes, headers: Headers, layout: Layout) -> tuple[Callable[[], Pixels] | None, bool]:
    """Return a function that decodes the body to the samples, [B, …] of the layout, and whether B is 1.

    The function raises MalformedRecord. It is None for a content type that is not one of `kinds`.
    """
    content_type = (headers.get("content-type") or "").partition(";")[0].strip().lower()
    if content_type not in kinds(layout):
        return None, False
    if content_type == PNG:
        return lambda: np.stack([_image(body, "png", layout)]), True
    if content_type == RAW:
        return lambda: _raw(body, headers, layout), len(body) <= layout.nbytes
    if content_type == JSON:
        return lambda: (_batch if layout.features is None else _vectors)(body, layout), False
    other = layout.accepted[content_type.encode()]
    return lambda: np.stack([_image(body, other, layout)]), True


def body_schemas(layout: Layout) -> dict[str, Any]:
    """Return the OpenAPI description of every kind of body and the headers of raw values."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    headers = {
        "dtype": (layout.dtype.name, "Raw values only."),
        "shape": (
            layout.header.decode(),
            "Raw values only: channels, height, width, or a vector's length; if several, their number first.",
        ),
    }
    batch = (Batch if layout.features is None else VectorBatch).model_json_schema()
    return {
        "requestBody": {
            "required": True,
            "content": dict.fromkeys(kinds(layout), binary) | {JSON: {"schema": batch}},
        },
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": False,
                "description": description,
                "schema": {"type": "string"},
                "example": example,
            }
            for name, (example, description) in headers.items()
        ],
    }


def _image(value: bytes, kind: Format, layout: Layout) -> Pixels:
    if len(value) > layout.max_bytes:
        raise MalformedRecord("", f"{len(value)} bytes, at most {layout.max_bytes} are accepted")
    return decode_as(kind, value, {}, layout)


def _raw(body: bytes, headers: Headers, layout: Layout) -> Pixels:
    """Decode raw values of one sample, or of several if ``shape`` begins with their number."""
    named = {name: None if text is None else text.encode() for name, text in headers.items()}
    batched = re.fullmatch(rf"([1-9][0-9]{{0,5}}),({layout.header.decode()})", headers.get("shape") or "")
    count = 1 if batched is None else int(batched[1])
    if batched is not None:
        named["shape"] = batched[2].encode()
    if count > MAX_IMAGES:
        raise MalformedRecord("", f"shape: {count} samples, at most {MAX_IMAGES} are accepted")
    if batched is not None and len(body) != count * layout.nbytes:
        raise MalformedRecord("", f"{len(body)} bytes, but shape {batched[0]} has {count * layout.nbytes}")
    size = len(body) // count
    parts = (body[i * size : (i + 1) * size] for i in range(count))
    return np.stack([decode_as("raw", part, named, layout) for part in parts])


def _batch(body: bytes, layout: Layout) -> Pixels:
    try:
        images = Batch.model_validate_json(body).images
    except ValidationError as error:
        raise _invalid(error) from error
    decoded = []
    for place, text in enumerate(images):
        try:
            decoded.append(_image(base64.b64decode(text, validate=True), "png", layout))
        except (binascii.Error, ValueError):
            raise MalformedRecord("", f"images.{place}: not Base64") from None
        except MalformedRecord as error:
            raise MalformedRecord(error.reason, f"images.{place}: {error.detail}") from error
    return np.stack(decoded)


def _vectors(body: bytes, layout: Layout) -> Pixels:
    try:
        vectors = VectorBatch.model_validate_json(body).vectors
    except ValidationError as error:
        raise _invalid(error) from error
    for place, vector in enumerate(vectors):
        if len(vector) != layout.size:
            raise MalformedRecord("", f"vectors.{place}: {len(vector)} numbers, expected {layout.size}")
    with np.errstate(over="ignore"):  # of float64; what becomes infinite is reported
        x_BF = np.array(vectors, np.float32)
    if not np.isfinite(x_BF).all():
        raise MalformedRecord("", "vectors: a number is too large for float32")
    return x_BF


def _invalid(error: ValidationError) -> MalformedRecord:
    problems = [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors()]
    return MalformedRecord("", "; ".join(problems))
