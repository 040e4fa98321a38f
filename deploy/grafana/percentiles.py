"""Queries for a percentile of a histogram."""

from deploy.grafana.frame import CHOSEN
from deploy.grafana.panels import Query

__all__ = ["percentile"]


def percentile(histogram: str) -> list[Query]:
    """Return the query for the 99th percentile of each service; no data while nothing happens."""
    buckets = f"sum by (service, le) (rate({histogram}_bucket{{{CHOSEN}}}[$__rate_interval]))"
    return [Query(f"histogram_quantile(0.99, {buckets}) >= 0")]  # NaN while nothing happens
