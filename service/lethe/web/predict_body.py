"""Decodes the images in the body of a request: one image, raw pixels, or a JSON batch of PNGs in Base64."""

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
"""Images in one request."""
JSON: Final = "application/json"
HEADERS: Final = ("content-type", "dtype", "shape")
"""The headers that say how to decode a body."""

Headers = Mapping[str, str | None]
"""Values of `HEADERS`; None or absent if the request has none."""


class Batch(BaseModel):
    """A batch of images, each a PNG in Base64."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: list[str] = Field(min_length=1, max_length=MAX_IMAGES)


def kinds(layout: Layout) -> tuple[str, ...]:
    """Return the supported content types: PNG, raw pixels, JSON, and the formats that the stream accepts."""
    more = [CONTENT_TYPES[name] for name in layout.accepted.values()]
    return tuple(dict.fromkeys((PNG, RAW, JSON, *more)))


def reader(body: bytes, headers: Headers, layout: Layout) -> tuple[Callable[[], Pixels] | None, bool]:
    """Return a function that decodes the body to uint8 [B, C, H, W], and whether B is 1.

    The function raises MalformedRecord. It is None for a content type that is not one of `kinds`.
    """
    content_type = (headers.get("content-type") or "").partition(";")[0].strip().lower()
    if content_type == PNG:
        return lambda: np.stack([_image(body, "png", layout)]), True
    if content_type == RAW:
        return lambda: _raw(body, headers, layout), len(body) <= layout.size
    if content_type == JSON:
        return lambda: _batch(body, layout), False
    if (other := layout.accepted.get(content_type.encode())) is not None:
        return lambda: np.stack([_image(body, other, layout)]), True
    return None, False


def body_schemas(layout: Layout) -> dict[str, Any]:
    """Return the OpenAPI description of every kind of body and the headers of raw pixels."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    headers = {
        "dtype": ("uint8", "Raw pixels only."),
        "shape": (
            layout.header.decode(),
            "Raw pixels only: channels, height, width; for several images, their number first.",
        ),
    }
    return {
        "requestBody": {
            "required": True,
            "content": dict.fromkeys(kinds(layout), binary) | {JSON: {"schema": Batch.model_json_schema()}},
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
    """Decode raw pixels of one image, or of several if ``shape`` begins with their number."""
    named = {name: None if text is None else text.encode() for name, text in headers.items()}
    batched = re.fullmatch(rf"([1-9][0-9]{{0,5}}),({layout.header.decode()})", headers.get("shape") or "")
    count = 1 if batched is None else int(batched[1])
    if batched is not None:
        named["shape"] = batched[2].encode()
    if count > MAX_IMAGES:
        raise MalformedRecord("", f"shape: {count} images, at most {MAX_IMAGES} are accepted")
    if batched is not None and len(body) != count * layout.size:
        raise MalformedRecord("", f"{len(body)} bytes, but shape {batched[0]} has {count * layout.size}")
    size = len(body) // count
    parts = (body[i * size : (i + 1) * size] for i in range(count))
    return np.stack([decode_as("raw", part, named, layout) for part in parts])


def _batch(body: bytes, layout: Layout) -> Pixels:
    try:
        images = Batch.model_validate_json(body).images
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors()]
        raise MalformedRecord("", "; ".join(problems)) from error
    decoded = []
    for place, text in enumerate(images):
        try:
            decoded.append(_image(base64.b64decode(text, validate=True), "png", layout))
        except (binascii.Error, ValueError):
            raise MalformedRecord("", f"images.{place}: not Base64") from None
        except MalformedRecord as error:
            raise MalformedRecord(error.reason, f"images.{place}: {error.detail}") from error
    return np.stack(decoded)
