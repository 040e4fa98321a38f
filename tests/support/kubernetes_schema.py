"""Whether a resource fits its kind's schema: Kubernetes' own kinds, and those of the Prometheus operator.

Neither asks a cluster. As with a server that validates strictly, a field that does not exist is a misfit.
"""

from typing import Any, Final

import kubernetes_validate
from cloudcoil.models.prometheus_operator import v1 as operator
from pydantic import ValidationError

__all__ = ["OPERATOR", "misfits"]

OPERATOR: Final = "monitoring.coreos.com/v1"
"""Of the operator's kinds. cloudcoil's classes are made from their definitions, patterns and all."""


def misfits(resource: dict[str, Any]) -> list[str]:
    """Return what is wrong with ``resource``, with its place.

    Raises AttributeError or SchemaNotFoundError for a kind that does not exist.
    """
    if resource["apiVersion"] == OPERATOR:
        return _misfits_operator(resource)
    try:
        kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{_place(error.absolute_path)}: {error.message}"]
    return []


def _misfits_operator(resource: dict[str, Any]) -> list[str]:
    kind = getattr(operator, resource["kind"])
    try:
        # by the names that YAML has, not by Python's
        kind.model_validate(resource, extra="forbid", by_alias=True, by_name=False)
    except ValidationError as error:
        return [f"{_place(problem['loc'])}: {problem['msg']}" for problem in error.errors()]
    return []


def _place(path: Any) -> str:
    return ".".join(map(str, path))
