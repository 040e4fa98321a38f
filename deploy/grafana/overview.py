"""The overview dashboard: one line for each service, with links into the other dashboards."""

from typing import Final

from grafana_foundation_sdk.models import dashboard as model

from deploy.grafana.frame import (
    ALIVE,
    BUDGET,
    CHOSEN,
    FORGETTING,
    FORGOTTEN,
    KEEPING,
    KEEPING_UP,
    LEARNING,
    LEFT,
    LOST,
    STALLED,
    UNSURE,
    Row,
    alerts,
    frame,
)
from deploy.grafana.panels import BAD, GOOD, WIDTH, Column, Limits, Query, chart, grid, of_service

__all__ = ["overview"]

SERVICE: Final = "${__data.fields.Service}"
"""The service of a line, in an address behind another column."""


def overview() -> model.Dashboard:
    """Return the dashboard."""
    evaluated = f"time() - max by (service) (lethe_last_evaluation_timestamp_seconds{{{CHOSEN}}} > 0)"
    firing = (
        f'count by (service) (ALERTS{{alertstate="firing", {CHOSEN}}})'
        f" or 0 * max by (service) (lethe_build_info{{{CHOSEN}}})"
    )
    to_forgetting, to_stream, to_privacy = (
        of_service(uid, SERVICE) for uid in ("lethe-forgetting", "lethe-stream", "lethe-privacy")
    )
    services = grid(
        "Services",
        "One line for each service. A number leads to the dashboard that explains it.",
        [
            f"max by (service, learner) (lethe_build_info{{{CHOSEN}}})",
            f"max by (service, segment) (lethe_segment_info{{{CHOSEN}}})",
            f"max by (service, probe) (topk by (service) (1, {LOST}))",
            BUDGET,
            LEARNING,
            evaluated,
            KEEPING_UP,
            KEEPING,
            ALIVE,
            firing,
        ],
        {
            "service": Column(
                "Service", leads_to=of_service("lethe-forgetting", "${__value.raw}"), least=100
            ),
            "learner": Column("Learner"),
            "segment": Column("Segment", least=90),
            "Value #C": Column("Forgets", "percentunit", 1, FORGOTTEN, leads_to=to_forgetting),
            "probe": Column("Worst probe", least=100),
            "Value #D": Column("Budget left", "percentunit", 1, LEFT, leads_to=to_forgetting, least=100),
            "Value #E": Column("Learns", "percentunit", 1, UNSURE, leads_to=to_forgetting),
            "Value #F": Column("Evaluated ago", "s", 0, leads_to=to_forgetting, least=115),
            "Value #G": Column("Lag", "s", 0, Limits(60, 600), STALLED, to_stream),
            "Value #H": Column("Keeps", "short", 0, Limits(2048, 8192), leads_to=to_privacy),
            "Value #I": Column(
                "Alive",
                limits=Limits(0.5, 0.5, below=True),
                words={"0": ("no", BAD), "1": ("yes", GOOD)},
                leads_to=to_stream,
            ),
            "Value #J": Column("Alerts", "short", 0, Limits(1, 1), leads_to=to_forgetting),
        },
        nothing="no service",
        sort="Forgets",
        span=WIDTH,
        height=14,
    )
    forgetting = chart(
        "Forgetting",
        "The largest loss of each service: best accuracy on a probe minus the current one.",
        "percentunit",
        [Query(FORGETTING)],
        limits=FORGOTTEN,
        steps=True,
        decimals=1,
    )
    learning = chart(
        "Learning",
        "Accuracy on each batch before it is learned, older batches fading.",
        "percentunit",
        [Query(LEARNING)],
        limits=UNSURE,
        ratio=True,
        decimals=1,
    )
    lag = chart(
        "Lag",
        "Records in the topic that are not learned yet.",
        "short",
        [Query(f"sum by (service) (lethe:lag:records{{{CHOSEN}}})")],
        decimals=0,
    )
    return frame(
        "lethe-overview",
        "Overview",
        "One line for each service, and where to look next.",
        [Row("", [services]), Row("", [alerts()]), Row("Services over time", [forgetting, learning, lag])],
    )
