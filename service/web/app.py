"""The HTTP interface: metrics for Prometheus, health for an orchestrator, state for everybody."""

from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from service.journal import Journal

__all__ = ["create_app"]


def create_app(journal: Journal, registry: CollectorRegistry, version: str) -> FastAPI:
    """Return the application that answers from ``journal`` and ``registry``."""
    app = FastAPI(title="Lethe", version=version, description="What is being learned, and forgotten.")

    @app.get("/metrics", response_class=PlainTextResponse, summary="Prometheus metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/livez", summary="200 while the loop turns, 503 when it is stuck")
    def livez() -> Response:
        return _health(journal.alive, "the loop turns", "the loop has not turned for too long")

    @app.get("/readyz", summary="200 while the broker answers, 503 when it does not")
    def readyz() -> Response:
        return _health(journal.ready, "the broker answers", "the broker does not answer")

    @app.get("/state", summary="The run so far")
    def state() -> dict[str, Any]:
        return journal.state()

    return app


def _health(good: bool, yes: str, no: str) -> Response:
    return JSONResponse({"detail": yes if good else no}, status_code=200 if good else 503)
