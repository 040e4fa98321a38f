"""The HTTP interface: metrics, health, state, the live page, and prediction."""

from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from service.journal import Journal
from service.privacy.standing import Standing
from service.web.live import Live, live_router
from service.web.page import page_router
from service.web.predict import Predict, Problem
from service.web.predict_metrics import PredictMetrics
from service.web.shortcut import Shortcut
from service.web.state import State, state_of
from service.web.token import bearer

__all__ = ["create_app"]


Responses = dict[int | str, dict[str, Any]]


def create_app(
    journal: Journal,
    registry: CollectorRegistry,
    version: str,
    standing: Standing,
    predict: Predict | None = None,
    token: str | None = None,
) -> FastAPI:
    """Return the application that answers from ``journal``, ``standing`` and ``registry``.

    ``predict`` is for a service that has a learner to ask. With a
    ``token``, whatever tells of the run, or predicts, needs it; health, the empty page and the
    description of the interface do not.
    """
    app = FastAPI(
        title="Lethe",
        version=version,
        description="What is being learned, and forgotten.",
        docs_url=None,  # FastAPI's pages of documentation fetch their scripts from elsewhere
        redoc_url=None,
    )
    locked = [Depends(bearer(token))] if token else []
    refused = _LOCKED if token else None
    if predict:
        # first: routes are tried in their order, and this one is asked for most
        app.include_router(predict.router(), dependencies=locked, responses=refused)
        app.add_middleware(
            Shortcut,
            path="/predict",
            answer=predict.at_once,
            most_bytes=predict.most_bytes,
            token=token,
            seen=PredictMetrics(registry),
        )

    @app.get("/livez", summary="200 while the loop turns, 503 when it is stuck", responses=_HEALTH)
    def livez() -> Response:
        return _health(journal.alive, "the loop turns", "the loop has not turned for too long")

    @app.get("/readyz", summary="200 while the broker answers, 503 when it does not", responses=_HEALTH)
    def readyz() -> Response:
        return _health(journal.ready, "the broker answers", "the broker does not answer")

    run = APIRouter()

    @run.get("/metrics", response_class=PlainTextResponse, summary="Prometheus metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @run.get("/state", summary="The run so far")
    def state() -> State:
        return state_of(journal, standing)

    app.include_router(page_router())
    for router in (run, live_router(Live(journal, standing))):
        app.include_router(router, dependencies=locked, responses=refused)
    return app


_HEALTH: Responses = {code: {"model": Problem} for code in (200, 503)}
_LOCKED: Responses = {
    401: {
        "description": "The bearer token is missing or wrong.",
        # a model would be described as the route's own kind of text, which a refusal is not
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}


def _health(good: bool, yes: str, no: str) -> Response:
    return JSONResponse({"detail": yes if good else no}, status_code=200 if good else 503)
