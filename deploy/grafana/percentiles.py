"""Percentiles of a histogram, for each service."""

from deploy.grafana.frame import CHOSEN
from deploy.grafana.panels import Query

__all__ = ["percentiles"]


def percentiles(histogram: str) -> list[Query]:
    """Return the median, and what 5 and 1 in 100 exceed."""
    buckets = f"sum by (service, le) (rate({histogram}_bucket{{{CHOSEN}}}[$__rate_interval]))"
    return [
        Query(f"histogram_quantile({quantile}, {buckets})", f"{{{{service}}}}: p{quantile * 100:.0f}")
        for quantile in (0.5, 0.95, 0.99)
    ]
