"""The HTTP interface conforms to its OpenAPI description."""

from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from prometheus_client import CollectorRegistry
from schemathesis import APIOperation
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from lethe.evaluation.history import History
from lethe.events import BrokerStatus
from lethe.learners.gradient.finetune import Finetune
from lethe.observability.run_state import RunState
from lethe.privacy.status import PolicyStatus
from lethe.settings import Settings
from lethe.web.app import create_app
from lethe.web.predict import PredictEndpoint
from lethe.web.prediction_worker import PredictionWorker
from lethe.web.predictor_snapshots import PredictorSnapshots
from tests.support.predicting import LAYOUT, LEARNER, MOST_BYTES, TOKEN

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]


EXCEPT = ["/events"]
"""The response never ends."""
LOCKED = {"/metrics", "/state", "/predict"}
"""What the token protects."""

BOUNDED = settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize(
    ("token", "sent"),
    [(None, None), (TOKEN, TOKEN), (TOKEN, None)],
    ids=["open", "with token", "without token"],
)
def test_the_interface_conforms_to_its_description(token: str | None, sent: str | None) -> None:
    with PredictionWorker(PredictorSnapshots(LEARNER), LAYOUT) as predictions:
        schema = schemathesis.openapi.from_asgi(
            "/openapi.json", ready(predictions, token), headers={"Authorization": f"Bearer {TOKEN}"}
        )
        found = list(schema.exclude(path=EXCEPT).get_all_operations())
        operations = [operation.ok() for operation in found if isinstance(operation, Ok)]
        assert len(operations) == len(found), "an operation is not described as OpenAPI asks for"
        assert {operation.path for operation in operations} == {"/livez", "/readyz", *LOCKED}
        for operation in operations:
            ask(operation, sent, rejected=token is not None and sent is None and operation.path in LOCKED)


def ask(operation: APIOperation[Any, Any, Any, Any], token: str | None, *, rejected: bool) -> None:
    """Send generated requests and require responses as described: 401 if and only if ``rejected``."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}

    @given(case=operation.as_strategy())
    @BOUNDED
    def answers_as_described(case: Any) -> None:
        answer = case.call_and_validate(checks=CHECKS, headers=headers)
        assert (answer.status_code == 401) == rejected

    answers_as_described()


def ready(predictions: PredictionWorker, token: str | None) -> FastAPI:
    """Return the application of a service whose broker answers; otherwise /readyz would be 503."""
    run_state = RunState(Settings(), Finetune, History([]))
    run_state(BrokerStatus(up=True))
    predict = PredictEndpoint(predictions, "finetune", LAYOUT, MOST_BYTES)
    return create_app(run_state, CollectorRegistry(), "1.2.3", PolicyStatus(), predict, token)
