"""The dashboard row on watched models: whether they answer, how fast, and what asking costs."""

from typing import Final

from deploy.grafana.frame import CHOSEN, Row
from deploy.grafana.panels import WIDTH, Limits, Query, chart
from deploy.grafana.rates import FIVE_MINUTES, percentile, rate

__all__ = ["watched_models"]

NONE: Final = "no model is watched"
REQUESTS: Final = "lethe_target_requests_total"


def watched_models() -> Row:
    """Return the row on models that Lethe watches but does not train."""
    retries = rate("lethe_target_retries_total", FIVE_MINUTES)
    attempts = f"({rate(REQUESTS, FIVE_MINUTES)} + {retries})"
    failures = rate(REQUESTS, FIVE_MINUTES, 'outcome="failed"')
    answers = chart(
        "Does the watched model answer?",
        "1 if the latest round was answered in full. At 0, what it knows is unknown and nothing is measured; "
        "after five minutes the alert LetheSkillsUnknown fires.",
        "none",
        [Query(f"min by (service) (lethe_target_up{{{CHOSEN}}})")],
        limits=Limits(0.5, 0.5, below=True),
        ratio=True,
        steps=True,
        decimals=0,
        nothing=NONE,
    )
    latency = chart(
        "Latency of the watched model, 99th percentile",
        "From the beginning of a request to its answer, with its retries.",
        "s",
        percentile("lethe_target_request_duration_seconds"),
        limits=Limits(1, 5),
        nothing=NONE,
    )
    failed = chart(
        "Failed requests and retries",
        "Share of attempts over five minutes that failed; an attempt is a request or a retry of one.",
        "percentunit",
        [Query(f"({retries} + {failures}) / ({attempts} > 0)")],
        limits=Limits(0.01, 0.1),
        nothing=NONE,
    )
    budget = chart(
        "Budget of requests used",
        "Requests and retries over five minutes, as a share of what --requests-per-minute allows; 0 without "
        "a limit. At 100 % rounds last longer than --every.",
        "percentunit",
        [Query(f"60 * {attempts} / sum by (service) (lethe_target_budget_requests{{{CHOSEN}}})")],
        limits=Limits(0.8, 1.0),
        nothing=NONE,
    )
    images = chart(
        "Images asked about per second",
        "Probe images that the watched model classified, over five minutes.",
        "count:/s",
        [Query(rate("lethe_target_images_total", FIVE_MINUTES))],
        nothing=NONE,
    )
    drops = chart(
        "Drops found",
        "Drops that the sequential test found within an hour, in any probe.",
        "none",
        [Query(f"sum by (service) (increase(lethe_target_drops_total{{{CHOSEN}}}[1h]))")],
        limits=Limits(0.5, 1),
        decimals=0,
        nothing=NONE,
    )
    panels = (answers, latency, failed, budget, images, drops)
    return Row("Watched models", [panel.span(WIDTH // 3) for panel in panels], collapsed=True)
