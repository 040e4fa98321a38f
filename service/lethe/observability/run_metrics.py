"""Totals of a run as Prometheus gauges, which continue after a restart.

Counters belong to the process and start at 0. Restored from a checkpoint, which after a crash is behind the
last scrape, they would decrease, and Prometheus would count their whole value again.
"""

import time

from prometheus_client import CollectorRegistry, Gauge

from lethe.events import (
    COUNTS,
    BoundaryDetected,
    Event,
    RecordsDeadLettered,
    RecordsLost,
    Resumed,
    SampleCounts,
    TopicRecreated,
)

__all__ = ["RunMetrics"]


class RunMetrics:
    """Registers the gauges in ``registry`` and updates them; part of `Metrics`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, documentation: str, *labels: str) -> Gauge:
            return Gauge(f"lethe_{name}", documentation, labels, registry=registry)

        outcomes = gauge("run_samples", "Records of the whole run, by outcome.", "outcome")
        self._counts = SampleCounts()
        self._outcomes = {name: outcomes.labels(name) for name, info in COUNTS.items() if info.total}
        self._reasons = gauge(
            "run_dead_lettered_samples", "Malformed records of the whole run, by reason.", "reason"
        )
        self._boundaries = gauge(
            "run_boundaries", "Boundaries detected in the whole run, by signal.", "signal"
        )
        for signal in ("features", "error", "loss"):
            self._boundaries.labels(signal)  # exported as 0 before the first
        self._lost_at = gauge(
            "samples_last_lost_timestamp_seconds",
            "When records were last lost, also before a restart; 0 if never.",
        )

    def __call__(self, event: Event) -> None:
        """Handle one event."""
        if (counts := self._counts.after(event)) is not self._counts:
            self._counts = counts
            for name, outcome in self._outcomes.items():
                outcome.set(getattr(counts, name))
        match event:
            case Resumed():
                self._resume(event)
            case RecordsDeadLettered():
                self._reasons.labels(event.reason).inc(event.count)
            case RecordsLost():
                self._lost_at.set(time.time())
            case TopicRecreated():
                self._lost_at.set(time.time())
            case BoundaryDetected():
                self._boundaries.labels(event.signal).inc()
            case _:
                return

    def _resume(self, event: Resumed) -> None:
        if event.lost_at is not None:
            self._lost_at.set(event.lost_at)
        for reason, count in event.dead.items():
            self._reasons.labels(reason).set(count)
        for signal, count in event.boundaries.items():
            self._boundaries.labels(signal).set(count)
