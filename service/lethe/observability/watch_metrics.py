"""Prometheus metrics of a watched model: those of learning, and whether it answers.

Every series has the label ``source="watched"``; those that both have are named as a run's.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Metric

from lethe.events import DropFound, Evaluated, Event, RequestsMade, TargetStatus
from lethe.observability.learning_metrics import LearningMetrics
from lethe.observability.metrics import EVALUATION_BUCKETS

__all__ = ["TargetMetrics", "WatchMetrics", "WatchedRegistry"]

SOURCE: Final = "watched"
REQUEST_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class WatchedRegistry(CollectorRegistry):
    """A registry whose series all have the label ``source="watched"``."""

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics with that label."""
        for metric in super().collect():
            labelled = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            labelled.samples = [
                sample._replace(labels={**sample.labels, "source": SOURCE}) for sample in metric.samples
            ]
            yield labelled


class WatchMetrics:
    """Registers the metrics in ``registry`` and updates them from events.

    ``build`` is as in `Metrics`, ``per_minute`` and ``probes`` as in `TargetMetrics`.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        build: dict[str, str],
        class_names: Sequence[str] = (),
        per_minute: float | None = None,
        probes: Sequence[str] = (),
    ) -> None:
        self._learning = LearningMetrics(registry, class_names)
        self._target = TargetMetrics(registry, per_minute, probes)
        self._seconds = Histogram(
            "lethe_evaluation_duration_seconds",
            "Evaluating all probes once.",
            buckets=EVALUATION_BUCKETS,
            registry=registry,
        )
        Info("lethe_build", "Learner and versions of the service.", registry=registry).info(build)

    def __call__(self, event: Event) -> None:
        """Handle one event."""
        self._learning(event)
        self._target(event)
        if isinstance(event, Evaluated):
            self._seconds.observe(event.seconds)


class TargetMetrics:
    """Registers the metrics that only a watched model has in ``registry``, and updates them from events.

    ``per_minute`` is the budget, the most requests a minute; None for no limit. Drops on ``probes`` are
    counted from 0 on, so that the first one is an increase.
    """

    def __init__(
        self, registry: CollectorRegistry, per_minute: float | None = None, probes: Sequence[str] = ()
    ) -> None:
        self._up = Gauge(
            "lethe_target_up",
            "Whether the watched model answers: if it does not, its skills are unknown, not forgotten. "
            "NaN before the first answer.",
            registry=registry,
        )
        self._up.set(math.nan)
        self._requests = Counter(
            "lethe_target_requests", "Requests to the watched model.", ("outcome",), registry=registry
        )
        self._images = Counter(
            "lethe_target_images", "Images that the watched model classified.", registry=registry
        )
        self._drops = Counter(
            "lethe_target_drops", "Drops that the sequential test found.", ("probe",), registry=registry
        )
        self._retries = Counter(
            "lethe_target_retries", "Further attempts after a request to it failed.", registry=registry
        )
        self._seconds = Histogram(
            "lethe_target_request_duration_seconds",
            "From the beginning of a request to its answer, with its retries.",
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )
        budget = Gauge(
            "lethe_target_budget_requests",
            "Requests and retries that --requests-per-minute allows in a minute; +Inf without a limit.",
            registry=registry,
        )
        budget.set(math.inf if per_minute is None else per_minute)
        for probe in probes:
            self._drops.labels(probe)
        for outcome in ("answered", "failed"):
            self._requests.labels(outcome)

    def __call__(self, event: Event) -> None:
        """Handle one event."""
        match event:
            case TargetStatus():
                self._up.set(event.up)
            case RequestsMade():
                self._requests.labels("answered").inc(event.answered)
                self._requests.labels("failed").inc(event.failed)
                self._images.inc(event.images)
                self._retries.inc(event.retried)
                for seconds in event.seconds:
                    self._seconds.observe(seconds)
            case DropFound():
                self._drops.labels(event.probe).inc()
            case _:
                return
