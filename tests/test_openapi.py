"""The interface keeps what its description says, whatever it is asked."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from service.prediction import Predictions, Snapshots
from tests.test_predict import LAYOUT, LEARNER, create

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]


EXCEPT = ["/events", "/readyz"]
"""The first never ends; the second is 503 without a broker, as it should be."""

BOUNDED = settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def test_the_interface_answers_as_it_is_described() -> None:
    with Predictions(Snapshots(LEARNER), LAYOUT) as predictions:
        schema = schemathesis.openapi.from_asgi("/openapi.json", create(predictions))
        found = list(schema.exclude(path=EXCEPT).get_all_operations())
        operations = [operation.ok() for operation in found if isinstance(operation, Ok)]
        assert len(operations) == len(found), "an operation is not described as OpenAPI asks for"
        assert {operation.path for operation in operations} == {"/livez", "/metrics", "/state", "/predict"}
        for operation in operations:

            @given(case=operation.as_strategy())
            @BOUNDED
            def answers_as_described(case: Any) -> None:
                case.call_and_validate(checks=CHECKS)

            answers_as_described()
