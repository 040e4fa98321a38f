"""``POST /predict``: images over HTTP to classes, beside learning and from its newest copy."""

import asyncio
import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect

from service.errors import MalformedRecord
from service.prediction import MOST_WAITING, Answer, Busy, Predictions
from service.wire import PNG, RAW, Layout, Pixels, decode_pixels

__all__ = ["BODY_SECONDS", "MOST_IMAGES", "Problem", "predict_router"]

MOST_IMAGES: Final = 256
"""In one request: they are predicted one request after the other."""
BODY_SECONDS: Final = 10.0
"""Until the body of a request is there."""
JSON: Final = "application/json"

_HEADERS: Final = ("content-type", "dtype", "shape")


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


class Batch(BaseModel):
    """Several images, each a PNG in Base64."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: list[str] = Field(min_length=1, max_length=MOST_IMAGES)


class Prediction(BaseModel):
    """What one image shows."""

    label: int
    """The likeliest class."""
    probability: float
    probabilities: list[float]
    """Of every class."""


class Model(BaseModel):
    """Which learner answered, and its version: how many samples it had learned."""

    learner: str
    samples: int


class Predicted(BaseModel):
    """A prediction for each image, in their order."""

    model: Model
    predictions: list[Prediction]


def predict_router(
    predictions: Predictions,
    learner: str,
    layout: Layout,
    most_bytes: int,
    body_seconds: float = BODY_SECONDS,
) -> APIRouter:
    """Return the route; ``most_bytes`` is the longest body taken, in ``body_seconds`` at most."""
    router = APIRouter()

    @router.post(
        "/predict",
        summary="Classify images",
        description=f"A PNG, raw pixels, or a JSON batch of up to {MOST_IMAGES} PNGs in Base64. A copy of "
        "the learner answers, beside learning; `model.samples` says how many samples it had learned.",
        response_model=Predicted,
        responses={code: {"model": Problem, "description": why} for code, why in _PROBLEMS.items()},
        openapi_extra=_request_body(layout),
    )
    async def predict(request: Request) -> Response:
        body = await _body(request, most_bytes, body_seconds)
        headers = {name: request.headers.get(name) for name in _HEADERS}
        read, single = _reader(body, headers, layout)
        try:
            answer = predictions.at_once(read) if single else None
            if answer is None:
                answer = await asyncio.wrap_future(predictions.submit(read))
        except Busy:
            raise HTTPException(503, f"{MOST_WAITING} requests are waiting", {"Retry-After": "1"}) from None
        except MalformedRecord as error:
            raise HTTPException(422, error.detail) from error
        # written here: FastAPI would check the model, which was just built, once more
        return Response(_predicted(answer, learner).model_dump_json(), media_type=JSON)

    return router


async def _body(request: Request, most_bytes: int, seconds: float) -> bytes:
    """Return the body; raises HTTPException 413 as soon as it is known to be too long, and 408 when late."""
    too_long = HTTPException(413, f"the body is longer than serve.max_body_bytes, {most_bytes}")
    if int(request.headers.get("content-length", 0)) > most_bytes:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most_bytes:
                    raise too_long
    except TimeoutError:
        # closed: whatever of the body still comes is no request
        raise HTTPException(408, f"no body within {seconds:g} seconds", {"Connection": "close"}) from None
    except ClientDisconnect:
        raise HTTPException(400, "the body broke off") from None  # told to nobody: the client has left
    return bytes(body)


def _reader(
    body: bytes, headers: Mapping[str, str | None], layout: Layout
) -> tuple[Callable[[], Pixels], bool]:
    """Return what decodes the body, uint8 [B, C, H, W], raising MalformedRecord, and whether B is at most 1.

    Raises HTTPException 415.
    """
    content_type = (headers["content-type"] or "").partition(";")[0].strip().lower()
    if content_type == PNG:
        return lambda: np.stack([_png(body, layout)]), True
    if content_type == RAW:
        return lambda: _raw(body, headers, layout), len(body) <= layout.size
    if content_type == JSON:
        return lambda: _batch(body, layout), False
    raise HTTPException(415, f"content-type: {PNG}, {RAW} and {JSON} are understood")


def _png(value: bytes, layout: Layout) -> Pixels:
    if len(value) > layout.max_bytes:
        raise MalformedRecord("", f"{len(value)} bytes, at most {layout.max_bytes} are taken")
    return decode_pixels(value, {"content-type": PNG.encode()}, layout)


def _raw(body: bytes, headers: Mapping[str, str | None], layout: Layout) -> Pixels:
    """Raw pixels of one image, or of several: then ``shape`` begins with their number."""
    named = {name: None if text is None else text.encode() for name, text in headers.items()}
    several = re.fullmatch(rf"([1-9][0-9]{{0,5}}),({layout.header.decode()})", headers["shape"] or "")
    count = 1 if several is None else int(several[1])
    if several is not None:
        named["shape"] = several[2].encode()
    if count > MOST_IMAGES:
        raise MalformedRecord("", f"shape: {count} images, at most {MOST_IMAGES} are taken")
    if several is not None and len(body) != count * layout.size:
        raise MalformedRecord("", f"{len(body)} bytes, {count * layout.size} make shape {headers['shape']}")
    size = len(body) // count
    parts = (body[i * size : (i + 1) * size] for i in range(count))
    return np.stack([decode_pixels(part, {**named, "content-type": RAW.encode()}, layout) for part in parts])


def _batch(body: bytes, layout: Layout) -> Pixels:
    try:
        images = Batch.model_validate_json(body).images
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors()]
        raise MalformedRecord("", "; ".join(problems)) from error
    decoded = []
    for place, text in enumerate(images):
        try:
            decoded.append(_png(base64.b64decode(text, validate=True), layout))
        except (binascii.Error, ValueError):
            raise MalformedRecord("", f"images.{place}: not Base64") from None
        except MalformedRecord as error:
            raise MalformedRecord(error.reason, f"images.{place}: {error.detail}") from error
    return np.stack(decoded)


def _predicted(answer: Answer, learner: str) -> Predicted:
    labels = answer.p_BK.argmax(1).tolist()
    rows = [[round(p, 6) for p in row] for row in answer.p_BK.tolist()]
    return Predicted(
        model=Model(learner=learner, samples=answer.samples),
        predictions=[
            Prediction(label=label, probability=row[label], probabilities=row)
            for label, row in zip(labels, rows, strict=True)
        ],
    )


_PROBLEMS: Final = {
    408: f"The body did not come to its end within {BODY_SECONDS:g} seconds.",
    413: "The body is too long.",
    415: "The content type is none of those.",
    422: "The body or a header is not what it should be; the detail names which.",
    503: "Too many requests are waiting.",
}


def _request_body(layout: Layout) -> dict[str, Any]:
    """Describe, for OpenAPI, the three kinds of body, which FastAPI does not parse itself."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    shape = layout.header.decode()
    headers = {
        "dtype": ("uint8", "Raw pixels only."),
        "shape": (shape, "Raw pixels only: channels, height, width; of several images, their number first."),
    }
    return {
        "requestBody": {
            "required": True,
            "content": {PNG: binary, RAW: binary, JSON: {"schema": Batch.model_json_schema()}},
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
