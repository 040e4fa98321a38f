"""PromQL expressions for how often something happens in each chosen service, and how long it takes."""

from typing import Final

from deploy.grafana.frame import CHOSEN
from deploy.grafana.panels import Query

__all__ = ["FIVE_MINUTES", "mean", "percentile", "rate"]

FIVE_MINUTES: Final = "5m"
"""A window for what is rare; the descriptions of its charts name it."""


def rate(counter: str, within: str = "$__rate_interval", matching: str = "") -> str:
    """Return the expression for a counter's increase per second, in each service.

    ``matching`` are further label matchers of the counter's series.
    """
    matchers = f"{matching}, {CHOSEN}" if matching else CHOSEN
    return f"sum by (service) (rate({counter}{{{matchers}}}[{within}]))"


def mean(histogram: str) -> str:
    """Return the expression for the mean of what a histogram observed in five minutes, in each service."""
    return f"{rate(f'{histogram}_sum', FIVE_MINUTES)} / {rate(f'{histogram}_count', FIVE_MINUTES)}"


def percentile(histogram: str) -> list[Query]:
    """Return the query for the 99th percentile of each service; no data while nothing happens."""
    buckets = f"sum by (service, le) (rate({histogram}_bucket{{{CHOSEN}}}[$__rate_interval]))"
    return [Query(f"histogram_quantile(0.99, {buckets}) >= 0")]  # NaN while nothing happens
