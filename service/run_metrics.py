"""What became of a run's records in all, as Prometheus gauges, which go on after a restart.

Counters are the process's own and begin at 0. Made to go on from a checkpoint, which after a crash is
behind the last scrape, they would fall: Prometheus takes that for a new process that has done all of it.
"""

import time

from prometheus_client import CollectorRegistry, Gauge

from service.events import (
    BatchLearned,
    BoundaryDetected,
    Event,
    RecordsDeadLettered,
    RecordsLost,
    RecordsReceived,
    Resumed,
)

__all__ = ["RunMetrics"]


class RunMetrics:
    """Registers them in ``registry`` and keeps them up to date; a part of `service.metrics.Metrics`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, documentation: str, *labels: str) -> Gauge:
            return Gauge(f"lethe_{name}", documentation, labels, registry=registry)

        outcomes = gauge("run_samples", "Records of the whole run, by what became of them.", "outcome")
        self._received, self._learned, self._dead, self._lost = (
            outcomes.labels(outcome) for outcome in ("received", "learned", "dead_lettered", "lost")
        )
        self._reasons = gauge(
            "run_dead_lettered_samples", "Malformed records of the whole run, by reason.", "reason"
        )
        self._boundaries = gauge(
            "run_boundaries", "Changes of subject found in the stream itself, in the whole run.", "signal"
        )
        for signal in ("features", "error", "loss"):
            self._boundaries.labels(signal)  # 0 is worth showing
        self._lost_at = gauge(
            "samples_last_lost_timestamp_seconds",
            "When records were last found lost, before a restart, too; 0 if never.",
        )

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Resumed():
                self._resume(event)
            case RecordsReceived():
                self._received.inc(event.count)
            case BatchLearned():
                self._learned.inc(event.samples)
            case RecordsDeadLettered():
                self._dead.inc(event.count)
                self._reasons.labels(event.reason).inc(event.count)
            case RecordsLost():
                self._lost.inc(event.count)
                self._lost_at.set(time.time())
            case BoundaryDetected():
                self._boundaries.labels(event.signal).inc()
            case _:
                return

    def _resume(self, event: Resumed) -> None:
        self._received.set(event.received)
        self._learned.set(event.learned)
        self._dead.set(sum(event.dead.values()))
        self._lost.set(event.lost)
        if event.lost_at is not None:
            self._lost_at.set(event.lost_at)
        for reason, count in event.dead.items():
            self._reasons.labels(reason).set(count)
        for signal, count in event.boundaries.items():
            self._boundaries.labels(signal).set(count)
