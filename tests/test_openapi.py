"""The interface keeps what its description says, whatever it is asked."""

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

from service.evaluation.history import History
from service.events import BrokerSeen
from service.journal import Journal
from service.learners.finetune import Finetune
from service.prediction import Predictions, Snapshots
from service.privacy.standing import Standing
from service.settings import Settings
from service.web.app import create_app
from service.web.predict import Predict
from tests.test_predict import LAYOUT, LEARNER, MOST_BYTES, TOKEN

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]


EXCEPT = ["/events"]
"""It never ends."""
LOCKED = {"/metrics", "/state", "/predict"}
"""What a token is for."""

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
def test_the_interface_answers_as_it_is_described(token: str | None, sent: str | None) -> None:
    with Predictions(Snapshots(LEARNER), LAYOUT) as predictions:
        schema = schemathesis.openapi.from_asgi("/openapi.json", ready(predictions, token))
        found = list(schema.exclude(path=EXCEPT).get_all_operations())
        operations = [operation.ok() for operation in found if isinstance(operation, Ok)]
        assert len(operations) == len(found), "an operation is not described as OpenAPI asks for"
        assert {operation.path for operation in operations} == {"/livez", "/readyz", *LOCKED}
        for operation in operations:
            ask(operation, sent, refused=token is not None and sent is None and operation.path in LOCKED)


def ask(operation: APIOperation[Any, Any, Any, Any], token: str | None, *, refused: bool) -> None:
    """Ask in many ways, and require an answer as described: 401 if ``refused``, and only then."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}

    @given(case=operation.as_strategy())
    @BOUNDED
    def answers_as_described(case: Any) -> None:
        answer = case.call_and_validate(checks=CHECKS, headers=headers)
        assert (answer.status_code == 401) == refused

    answers_as_described()


def ready(predictions: Predictions, token: str | None) -> FastAPI:
    """The application of a service whose broker answers: otherwise /readyz is 503, as it should be."""
    journal = Journal(Settings(), Finetune, History([]))
    journal(BrokerSeen(up=True))
    predict = Predict(predictions, "finetune", LAYOUT, MOST_BYTES)
    return create_app(journal, CollectorRegistry(), "1.2.3", Standing(), predict, token)
