"""Exports what several ranks do in their rounds, all on the page of rank 0."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from lethe.events import Event, RoundLearned

__all__ = ["RankMetrics"]

ROUND_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class RankMetrics:
    """Registers the metrics in ``registry`` and updates them; part of `Metrics`.

    A service that learns alone exports no rank.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, documentation: str) -> Counter:
            return Counter(f"lethe_rank_{name}", documentation, ("rank",), registry=registry)

        self._rounds = Histogram(
            "lethe_round_duration_seconds",
            "From the start of a round until every rank has learned its batch.",
            buckets=ROUND_BUCKETS,
            registry=registry,
        )
        self._lag = Gauge(
            "lethe_rank_lag_records",
            "Records in a rank's partitions that are not learned yet.",
            ("rank",),
            registry=registry,
        )
        self._moved = Counter(
            "lethe_collective_bytes",
            "Bytes of the tensors that each rank has exchanged with the others.",
            registry=registry,
        )
        self._samples = counter("samples_learned", "Samples that a rank has learned.")
        self._learning = counter(
            "learning_seconds", "Time in which a rank predicted and learned its batches."
        )
        self._collective = counter(
            "collective_seconds",
            "Time in which a rank exchanged tensors with the others, or waited for them to.",
        )
        self._waited_for = counter(
            "waited_for_seconds", "Time in which all other ranks waited for this one alone."
        )

    def __call__(self, event: Event) -> None:
        """Handle one event."""
        if not isinstance(event, RoundLearned):
            return
        self._rounds.observe(event.seconds)
        self._moved.inc(event.collective_bytes)
        for rank, part in enumerate(event.ranks):
            self._lag.labels(rank).set(part.lag)
            self._samples.labels(rank).inc(part.samples)
            self._learning.labels(rank).inc(part.learning_seconds)
            self._collective.labels(rank).inc(part.collective_seconds)
            self._waited_for.labels(rank).inc(part.waited_for_seconds)
