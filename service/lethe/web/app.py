"""Creates the HTTP application: metrics, health, state, the live page and prediction."""

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from lethe.observability.model_standing import ModelStanding
from lethe.observability.run_state import RunState
from lethe.privacy.status import PolicyStatus
from lethe.web.auth import bearer
from lethe.web.live_events import LiveFeed, live_router
from lethe.web.page import page_router, script_router
from lethe.web.predict import PredictEndpoint, PredictMetrics, Problem
from lethe.web.predict_fast_path import PredictFastPath
from lethe.web.rejected_requests import RejectionReason
from lethe.web.state import State, state_of
from lethe.web.visits import AnnounceVisit, visits_router

__all__ = ["create_app"]


Responses = dict[int | str, dict[str, Any]]


def create_app(
    run_state: RunState,
    registry: CollectorRegistry,
    version: str,
    policy_status: PolicyStatus,
    predict: PredictEndpoint | None = None,
    token: str | None = None,
    on_rejected: Callable[[RejectionReason], None] = lambda _: None,
    announce_visit: AnnounceVisit | None = None,
    beside: Callable[[], Sequence[ModelStanding]] = tuple,
) -> FastAPI:
    """Return the application that answers from ``run_state``, ``policy_status`` and ``registry``.

    ``predict`` adds the prediction endpoint. With a ``token``, every route requires it but health, the empty
    page and its assets. ``on_rejected`` is called for each listener to /events that is turned away.
    ``announce_visit`` adds the route with which users announce visits of a watched model;
    ``beside`` returns how models stand that are watched elsewhere.
    """
    app = FastAPI(
        title="Lethe",
        version=version,
        description="Learns online from a Kafka stream and shows what it is forgetting.",
        openapi_url=None,  # served below, behind the token
        docs_url=None,  # FastAPI's documentation pages load scripts from a CDN
        redoc_url=None,
    )
    locked = [Depends(bearer(token))] if token else []
    unlocked = _LOCKED if token else None
    if predict:
        # first: routes are tried in order, and this one has most requests
        app.include_router(predict.router(), dependencies=locked, responses=unlocked)
        app.add_middleware(
            PredictFastPath,
            path="/predict",
            respond=predict.respond_now,
            max_bytes=predict.max_bytes,
            token=token,
            observe=PredictMetrics(registry),
        )

    asked = "the watched model" if run_state.watched else "the broker"

    @app.get("/livez", summary="Liveness: 200 while the loop runs, 503 when it is stuck", responses=_HEALTH)
    async def livez() -> Response:  # not in the thread pool, which other requests may keep busy
        return _health(
            run_state.alive,
            "the loop is running",
            "the loop is stuck: no iteration within serve.stalled_seconds",
        )

    @app.get(
        "/readyz", summary="Readiness: 200 while the broker answers, 503 when it does not", responses=_HEALTH
    )
    async def readyz() -> Response:
        waiting = "" if token else run_state.waits_for  # the detail names addresses and the topic
        return _health(run_state.ready, f"{asked} answers", waiting or f"{asked} does not answer")

    run = APIRouter()

    @run.get("/metrics", response_class=PlainTextResponse, summary="Prometheus metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @run.get("/state", summary="State of the run")
    def state() -> State:
        return state_of(run_state, policy_status, beside)

    @run.get("/openapi.json", include_in_schema=False)
    def description() -> Response:
        return JSONResponse(app.openapi())

    app.include_router(page_router())
    visits = [] if announce_visit is None else [visits_router(run_state.probes, announce_visit)]
    for router in (
        run,
        script_router(),
        live_router(LiveFeed(run_state, policy_status, beside=beside), on_rejected),
        *visits,
    ):
        app.include_router(router, dependencies=locked, responses=unlocked)
    return app


_HEALTH: Responses = {code: {"model": Problem} for code in (200, 503)}
_LOCKED: Responses = {
    401: {
        "description": "The bearer token is missing or wrong.",
        # with a model, FastAPI would describe it with the content type of the route
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}


def _health(good: bool, yes: str, no: str) -> Response:
    return JSONResponse({"detail": yes if good else no}, status_code=200 if good else 503)
