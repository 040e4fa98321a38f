"""``POST /predict``: classifies samples with a recent snapshot of the learner, concurrently with learning."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from fastapi import APIRouter, HTTPException, Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from lethe.errors import MalformedRecord
from lethe.web.predict_body import HEADERS, JSON, MAX_IMAGES, Headers, body_schemas, kinds, reader
from lethe.web.prediction_worker import (
    MAX_WAITING,
    NoClassYet,
    NonFinitePrediction,
    PredictionResult,
    PredictionWorker,
    QueueFull,
)
from lethe.wire import Layout

__all__ = ["BODY_SECONDS", "PredictEndpoint", "PredictMetrics", "Problem"]

BODY_SECONDS: Final = 10.0
"""Time limit for the body of a request."""
MAX_BODIES: Final = 16
"""Incomplete bodies held at once, if each is of the maximum length; more if they are shorter."""

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
STATUSES: Final = (200, 400, 401, 408, 413, 415, 422, 500, 503)
"""Statuses of responses; the metric exports a 0 for each of them."""


class Problem(BaseModel):
    """The reason why a request failed."""

    detail: str


class Prediction(BaseModel):
    """The class of one image."""

    label: int
    """The most likely class."""
    name: str | None = None
    """Its name; null if it has none."""
    probability: float
    probabilities: list[float]
    """Of each class."""


class Model(BaseModel):
    """The learner that predicted, and its version: the number of samples it had learned."""

    learner: str
    samples: int


class Predicted(BaseModel):
    """A prediction for each image, in the order of the request."""

    model: Model
    predictions: list[Prediction]


class PredictEndpoint:
    """The prediction endpoint: `router` handles any request, `respond_now` a single sample without waiting.

    ``names`` returns the names of the classes by number, as far as they have any.

    A body has at most ``max_bytes`` and must arrive within ``body_seconds``.
    """

    def __init__(
        self,
        predictions: PredictionWorker,
        learner: str,
        layout: Layout,
        max_bytes: int,
        body_seconds: float = BODY_SECONDS,
        names: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._predictions, self._learner, self._layout = predictions, learner, layout
        self.max_bytes, self._body_seconds, self._names = max_bytes, body_seconds, names
        self._held = 0  # bytes of incomplete bodies

    def respond_now(self, body: bytes, headers: Headers) -> bytes | None:
        """Return the JSON of the prediction, computed on this thread, or None if `router` must respond.

        That is the case for anything but one valid sample, and while other requests are being answered.
        """
        read, single = reader(body, headers, self._layout)
        if read is None or not single:
            return None
        try:
            result = self._predictions.predict_now(read)
        except (MalformedRecord, NonFinitePrediction, NoClassYet):
            return None  # the router reports what is wrong
        return None if result is None else self._json(result)

    def router(self) -> APIRouter:
        """Return the route."""
        router = APIRouter()

        @router.post(
            "/predict",
            summary="Classify samples",
            description=f"Takes an image, raw values, or a JSON batch of up to {MAX_IMAGES} PNGs in Base64 "
            "or vectors. A recent snapshot of the learner predicts; `model.samples` says how many it knows.",
            response_model=Predicted,
            responses={code: {"model": Problem, "description": why} for code, why in _PROBLEMS.items()},
            openapi_extra=body_schemas(self._layout),  # the bodies are parsed here, not by FastAPI
        )
        async def predict(request: Request) -> Response:
            body = await self._body(request)
            read, _ = reader(body, {name: request.headers.get(name) for name in HEADERS}, self._layout)
            if read is None:
                raise HTTPException(415, f"content-type: must be one of {', '.join(kinds(self._layout))}")
            try:
                result = await asyncio.wrap_future(self._predictions.submit(read))
            except QueueFull:
                detail = f"the queue is full: {MAX_WAITING} requests are waiting"
                raise HTTPException(503, detail, {"Retry-After": "1"}) from None
            except NonFinitePrediction:
                detail = "the prediction is not finite: the learner has diverged"
                raise HTTPException(503, detail) from None
            except NoClassYet:
                raise HTTPException(503, "no class has appeared in the stream yet") from None
            except MalformedRecord as error:
                raise HTTPException(422, error.detail) from error
            # serialised here: FastAPI would validate the model once more
            return Response(self._json(result), media_type=JSON)

        return router

    async def _body(self, request: Request) -> bytes:
        """Return the body.

        Raises HTTPException 413 as soon as it is too long, 408 when it is too late, 503 while the incomplete
        bodies of other requests take too much memory, 400 when the client disconnects.
        """
        too_long = HTTPException(413, f"the body is longer than serve.max_body_bytes, {self.max_bytes}")
        if int(request.headers.get("content-length", 0)) > self.max_bytes:
            raise too_long
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_seconds):
                async for chunk in request.stream():
                    body += chunk
                    self._held += len(chunk)
                    if len(body) > self.max_bytes:
                        raise too_long
                    if self._held > MAX_BODIES * self.max_bytes:
                        detail = f"the bodies of other requests take {self._held - len(body)} bytes"
                        raise HTTPException(503, detail, {"Retry-After": "1"})
        except TimeoutError:
            # closed, because the rest of the body would be read as the next request
            detail = f"the body was not complete within {self._body_seconds:g} seconds"
            raise HTTPException(408, detail, {"Connection": "close"}) from None
        except ClientDisconnect:
            raise HTTPException(400, "the client disconnected") from None  # only the metric sees it
        finally:
            self._held -= len(body)
        return bytes(body)

    def _json(self, result: PredictionResult) -> bytes:
        labels, names = result.p_BK.argmax(1).tolist(), self._names()
        rows = [[round(p, 6) for p in row] for row in result.p_BK.tolist()]
        predicted = Predicted(
            model=Model(learner=self._learner, samples=result.samples),
            predictions=[
                Prediction(
                    label=label,
                    name=names[label] if label < len(names) else None,
                    probability=row[label],
                    probabilities=row,
                )
                for label, row in zip(labels, rows, strict=True)
            ],
        )
        return predicted.model_dump_json().encode()


class PredictMetrics:
    """The metrics of /predict, registered in ``registry``: requests by status, and duration."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "lethe_predict_requests",
            "Requests to /predict, by status of the response.",
            ("status",),
            registry=registry,
        )
        self._by_status = {status: self._requests.labels(str(status)) for status in STATUSES}
        self._seconds = Histogram(
            "lethe_predict_duration_seconds",
            "Time from the head of a request to its prediction.",
            buckets=BUCKETS,
            registry=registry,
        )

    def __call__(self, status: int, seconds: float) -> None:
        """Count one request; ``status`` is 500 if it got no response."""
        requests = self._by_status.get(status) or self._requests.labels(str(status))
        requests.inc()
        if status == 200:  # rejected requests are fast and would distort the durations
            self._seconds.observe(seconds)


_PROBLEMS: Final = {
    408: f"The body was not complete within {BODY_SECONDS:g} seconds.",
    413: "The body is too long.",
    415: "The content type is not supported.",
    422: "The body or a header is malformed; the detail says which and how.",
    503: "Too many requests are waiting, no class has appeared in the stream yet, or the learner has "
    "diverged and its prediction is not finite.",
}
