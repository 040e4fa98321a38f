"""Exported metrics, rules, dashboards, and the metrics that PromQL expressions use."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from lethe.events import PrivacySpent
from lethe.observability.metrics import Metrics
from lethe.observability.watch_metrics import TargetMetrics
from lethe.runtime.factories import create_registry, export_reader_processes
from lethe.web.predict import PredictMetrics
from lethe.web.rejected_requests import RejectedRequests

__all__ = [
    "DEPLOY",
    "NOT_OURS",
    "PanelQuery",
    "dashboards",
    "exported",
    "metrics_in",
    "panels",
    "queries",
    "recorded",
    "rules",
    "titles_of_row",
]

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
NOT_OURS: Final = {"up"}
"""What rules and dashboards may name besides `exported`: Prometheus' own."""
SUFFIXES: Final = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
    "info": ("_info",),
}


@cache
def exported() -> dict[str, tuple[str, ...]]:
    """The series of each metric of a service, including the client library's own."""
    registry = create_registry()
    metrics = Metrics(registry, sample_bytes=784, build={})
    metrics(PrivacySpent(epsilon=2.5, delta=1e-5, budget=8.0, spent=False))  # else there are no such metrics
    PredictMetrics(registry)
    RejectedRequests(registry)
    TargetMetrics(registry)
    with export_reader_processes(registry, lambda: [os.getpid()]):
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
    return set(
        re.findall(r"\b(?:lethe[_:][a-zA-Z0-9_:]+|process_[a-z_]+|up|ALERTS_FOR_STATE|ALERTS)\b", bare)
    )


@cache
def dashboards() -> tuple[dict[str, Any], ...]:
    """The dashboards as they are committed."""
    files = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
    return tuple(json.loads(file.read_text()) for file in files)


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """What a dashboard shows, without the headings of its rows."""
    every = (one for panel in dashboard["panels"] for one in (panel, *panel.get("panels", [])))
    return [panel for panel in every if panel["type"] != "row"]


def titles_of_row(uid: str, row: str) -> list[str]:
    """The titles of the panels in a closed row of the dashboard ``uid``."""
    (board,) = (board for board in dashboards() if board["uid"] == uid)
    (closed,) = (panel for panel in board["panels"] if (panel["type"], panel.get("title")) == ("row", row))
    return [panel["title"] for panel in closed["panels"]]


@dataclass(frozen=True)
class PanelQuery:
    """A query that Grafana sends, with its panel."""

    place: str
    expr: str
    """As Grafana would send it, with its variables filled in."""

    def __str__(self) -> str:
        return self.place


def queries(service: str = ".+", rate_interval: str = "20s") -> Iterator[PanelQuery]:
    """Every query of every panel and annotation, for the services that match ``service``.

    ``rate_interval`` is four times what Prometheus scrapes at, by default every 5 seconds.
    """
    for dashboard in dashboards():
        found = [
            (panel["title"], target["refId"], target["expr"])
            for panel in panels(dashboard)
            for target in panel["targets"]
        ]
        found += [(note["name"], "annotation", note["expr"]) for note in dashboard["annotations"]["list"]]
        for title, name, expr in found:
            sent = expr.replace("$service", service).replace("$__rate_interval", rate_interval)
            sent = sent.replace("$__interval", "5s")
            yield PanelQuery(f"{dashboard['uid']}: {title}: {name}", sent)
