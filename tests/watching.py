"""What a service exports, and which metrics an expression of PromQL names."""

import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from prometheus_client import CollectorRegistry

from service.metrics import Metrics

__all__ = ["DEPLOY", "NOT_OURS", "exported", "metrics_in", "recorded", "rules"]

DEPLOY: Final = Path(__file__).parents[1] / "deploy"
NOT_OURS: Final = {
    "up",
    "process_start_time_seconds",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
}
"""What rules and dashboards may name besides `exported`: Prometheus' own, and the client library's."""
SUFFIXES: Final = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
    "info": ("_info",),
}


@cache
def exported() -> dict[str, tuple[str, ...]]:
    """The series of each metric of a service, without the client library's own."""
    registry = CollectorRegistry()
    Metrics(registry, sample_bytes=784, build={})
    return {
        family.name: tuple(family.name + suffix for suffix in SUFFIXES[family.type])
        for family in registry.collect()
    }


@cache
def rules() -> tuple[dict[str, Any], ...]:
    """Every rule, recording and alerting."""
    files = sorted((DEPLOY / "prometheus" / "rules").glob("*.yaml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return tuple(rule for group in groups for rule in group["rules"])


def recorded() -> set[str]:
    """The names of the recording rules."""
    return {rule["record"] for rule in rules() if "record" in rule}


def metrics_in(expression: str) -> set[str]:
    """The metrics that ``expression`` names.

    >>> sorted(metrics_in('sum by (le) (rate(lethe_x_bucket{service="up"}[5m])) / lethe:y:ratio'))
    ['lethe:y:ratio', 'lethe_x_bucket']
    """
    bare = re.sub(r"\{[^}]*\}", "", expression)
    return set(re.findall(r"\b(?:lethe[_:][a-zA-Z0-9_:]+|process_[a-z_]+|up)\b", bare))
