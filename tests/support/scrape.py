"""The metrics of a service after some events, as Prometheus scrapes them."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from lethe.events import Event
from lethe.observability.metrics import Metrics
from lethe.observability.watch_metrics import TargetMetrics

__all__ = ["Scrape"]


class Scrape:
    """The metrics after ``events``."""

    def __init__(self, *events: Event, class_names: Sequence[str] = ()) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(
            self.registry, sample_bytes=784, build={"version": "1.2.3"}, class_names=class_names
        )
        target = TargetMetrics(self.registry)
        for event in events:
            self.metrics(event)
            target(event)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"lethe_{name}", labels)
