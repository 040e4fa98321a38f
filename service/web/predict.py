"""``POST /predict``: images over HTTP to classes, beside learning and from its newest copy."""

import asyncio
from typing import Final

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from service.errors import MalformedRecord
from service.prediction import MOST_WAITING, Answer, Busy, Predictions
from service.web.images import HEADERS, JSON, KINDS, MOST_IMAGES, Headers, body_schemas, reader
from service.wire import Layout

__all__ = ["BODY_SECONDS", "Predict", "Problem"]

BODY_SECONDS: Final = 10.0
"""Until the body of a request is there."""


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


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


class Predict:
    """Answers requests: `router` any of them, `at_once` a single image that needs no waiting.

    ``most_bytes`` is the longest body taken, in ``body_seconds`` at most.
    """

    def __init__(
        self,
        predictions: Predictions,
        learner: str,
        layout: Layout,
        most_bytes: int,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self._predictions, self._learner, self._layout = predictions, learner, layout
        self.most_bytes, self._body_seconds = most_bytes, body_seconds

    def at_once(self, body: bytes, headers: Headers) -> bytes | None:
        """Return the answer's JSON, from this thread; None for whatever `router` has to look at.

        That is anything but one good image, and any image while others are being answered.
        """
        read, single = reader(body, headers, self._layout)
        if read is None or not single:
            return None
        try:
            answer = self._predictions.at_once(read)
        except MalformedRecord:
            return None  # the router says what is wrong
        return None if answer is None else self._json(answer)

    def router(self) -> APIRouter:
        """Return the route."""
        router = APIRouter()

        @router.post(
            "/predict",
            summary="Classify images",
            description=f"A PNG, raw pixels, or a JSON batch of up to {MOST_IMAGES} PNGs in Base64. A copy "
            "of the learner answers, beside learning; `model.samples` says how many samples it had learned.",
            response_model=Predicted,
            responses={code: {"model": Problem, "description": why} for code, why in _PROBLEMS.items()},
            openapi_extra=body_schemas(self._layout),  # FastAPI does not parse the bodies itself
        )
        async def predict(request: Request) -> Response:
            body = await self._body(request)
            read, _ = reader(body, {name: request.headers.get(name) for name in HEADERS}, self._layout)
            if read is None:
                raise HTTPException(
                    415, f"content-type: {KINDS[0]}, {KINDS[1]} and {KINDS[2]} are understood"
                )
            try:
                answer = await asyncio.wrap_future(self._predictions.submit(read))
            except Busy:
                detail = f"{MOST_WAITING} requests are waiting"
                raise HTTPException(503, detail, {"Retry-After": "1"}) from None
            except MalformedRecord as error:
                raise HTTPException(422, error.detail) from error
            # written here: FastAPI would check the model, which was just built, once more
            return Response(self._json(answer), media_type=JSON)

        return router

    async def _body(self, request: Request) -> bytes:
        """Return the body.

        Raises HTTPException 413 as soon as it is known to be too long, 408 when it comes too late.
        """
        too_long = HTTPException(413, f"the body is longer than serve.max_body_bytes, {self.most_bytes}")
        if int(request.headers.get("content-length", 0)) > self.most_bytes:
            raise too_long
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > self.most_bytes:
                        raise too_long
        except TimeoutError:
            # closed: whatever of the body still comes is no request
            detail = f"no body within {self._body_seconds:g} seconds"
            raise HTTPException(408, detail, {"Connection": "close"}) from None
        except ClientDisconnect:
            raise HTTPException(400, "the body broke off") from None  # told to nobody: the client has left
        return bytes(body)

    def _json(self, answer: Answer) -> bytes:
        labels = answer.p_BK.argmax(1).tolist()
        rows = [[round(p, 6) for p in row] for row in answer.p_BK.tolist()]
        predicted = Predicted(
            model=Model(learner=self._learner, samples=answer.samples),
            predictions=[
                Prediction(label=label, probability=row[label], probabilities=row)
                for label, row in zip(labels, rows, strict=True)
            ],
        )
        return predicted.model_dump_json().encode()


_PROBLEMS: Final = {
    408: f"The body did not come to its end within {BODY_SECONDS:g} seconds.",
    413: "The body is too long.",
    415: "The content type is none of those.",
    422: "The body or a header is not what it should be; the detail names which.",
    503: "Too many requests are waiting.",
}
