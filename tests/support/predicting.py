"""An app that answers /predict with a small learner, and images and headers for requests."""

from collections.abc import Callable, Iterable

import numpy as np
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from lethe.evaluation.history import History
from lethe.events import Event
from lethe.learners.base import LearnerContext
from lethe.learners.gradient.finetune import Finetune
from lethe.observability.run_state import RunState
from lethe.privacy.status import PolicyStatus
from lethe.settings import Settings
from lethe.web.app import create_app
from lethe.web.predict import PredictEndpoint
from lethe.web.prediction_worker import PredictionWorker
from lethe.web.rejected_requests import RejectionReason
from lethe.wire import PNG, RAW, Layout, Sample, encode

__all__ = ["AS_RAW", "LAYOUT", "LEARNER", "MOST_BYTES", "TOKEN", "X_NCHW", "create", "png"]

LAYOUT = Layout(height=8, width=8, classes=3, max_bytes=5_000)
LEARNER = Finetune(LearnerContext(LAYOUT))
X_NCHW = np.random.default_rng(0).integers(0, 256, (4, 1, 8, 8), np.uint8)
TOKEN = "a-token-that-nobody-guesses"
MOST_BYTES = 20_000
AS_RAW = {"content-type": RAW, "dtype": "uint8", "shape": "1,8,8"}


def png(i: int = 0) -> bytes:
    return encode(Sample(X_NCHW[i], 0), PNG)[0]


def create(
    predictions: PredictionWorker,
    token: str | None = None,
    registry: CollectorRegistry | None = None,
    on_rejected: Callable[[RejectionReason], None] = lambda _: None,
    events: Iterable[Event] = (),
    layout: Layout = LAYOUT,
    history: History | None = None,
) -> FastAPI:
    run_state = RunState(Settings(), Finetune, history or History([]))
    for event in events:
        run_state(event)
    predict = PredictEndpoint(predictions, "finetune", layout, MOST_BYTES)
    return create_app(
        run_state, registry or CollectorRegistry(), "1.2.3", PolicyStatus(), predict, token, on_rejected
    )
