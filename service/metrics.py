"""Events to Prometheus metrics; everything is named ``lethe_…`` in base units, accuracies as ratios."""

import math
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from service.events import (
    BatchLearned,
    BrokerSeen,
    CheckpointFailed,
    CheckpointUnreadable,
    CheckpointWritten,
    Evaluated,
    Event,
    Lag,
    LearningBegan,
    LedgerStands,
    Measured,
    PartitionsAdded,
    PolicyViolated,
    PrivacySpent,
    PurgeHeldUp,
    PurgeLag,
    RecordsDeadLettered,
    RecordsLost,
    RecordsReceived,
    Resumed,
    SamplesKept,
    Turned,
    ViolationLasts,
)
from service.knowledge_metrics import KnowledgeMetrics
from service.run_metrics import RunMetrics

__all__ = ["Metrics"]

STEP_BUCKETS = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
AGE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
HEAD_DIGITS = 12
"""Of the ledger's head, in base 16: what a float64 holds exactly."""
EVALUATION_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Registers every metric of a run in ``registry`` and keeps it up to date.

    ``sample_bytes`` is the size of one sample's pixels, ``build`` the labels of
    ``lethe_build_info``. Counters count what this process did; the run's totals are gauges.
    """

    def __init__(self, registry: CollectorRegistry, sample_bytes: int, build: dict[str, str]) -> None:
        self._sample_bytes = sample_bytes
        self._knowledge, self._run = KnowledgeMetrics(registry), RunMetrics(registry)

        def counter(name: str, documentation: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"lethe_{name}", documentation, labels, registry=registry)

        def gauge(name: str, documentation: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"lethe_{name}", documentation, labels, registry=registry)

        def histogram(name: str, documentation: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"lethe_{name}", documentation, buckets=buckets, registry=registry)

        self._received = counter("samples_received", "Records taken from the topic, good and bad.")
        self._learned = counter("samples_learned", "Samples learned, each once.")
        self._discarded = counter("samples_discarded", "Samples whose pixels were overwritten after use.")
        self._dead = counter("samples_dead_lettered", "Malformed records, by reason.", ("reason",))
        self._lost = counter("samples_lost", "Offsets that the broker never served: gaps in the topic.")
        self._added = counter("partitions_added", "Partitions that the topic got while it was learned.")
        self._resident = gauge("samples_resident", "Samples whose pixels are in the service now.")
        self._resident_bytes = gauge("samples_resident_bytes", "Bytes of those pixels.")
        self._kept = gauge("samples_kept", "Samples of before that the learner keeps now.")
        self._prequential = gauge(
            "prequential_accuracy_ratio", "Accuracy on each batch before it is learned.", ("kind",)
        )
        self._lag = gauge("partition_lag_records", "Records in the topic, not yet learned.", ("partition",))
        self._offset = gauge("partition_offset", "First offset not yet learned.", ("partition",))
        self._partitions: dict[int, tuple[Gauge, Gauge]] = {}
        self._latency = histogram(
            "end_to_end_latency_seconds",
            "From a batch's first sample being produced to being learned.",
            AGE_BUCKETS,
        )
        self._residency = histogram(
            "sample_residency_seconds",
            "From a batch's first sample arrived to discarded.",
            AGE_BUCKETS,
        )
        self._step = histogram("step_duration_seconds", "Predicting and learning one batch.", STEP_BUCKETS)
        self._evaluation = histogram(
            "evaluation_duration_seconds", "Evaluating all probes once.", EVALUATION_BUCKETS
        )
        self._loss = gauge("batch_loss", "Mean loss of the last batch, before it was learned.")
        self._progress = gauge("last_progress_timestamp_seconds", "When the last batch was learned.")
        self._start = gauge(
            "start_duration_seconds",
            "From the process's begin to the first batch learned, by part: imports, or the rest.",
            ("part",),
        )
        self._turned = gauge("last_turn_timestamp_seconds", "When the loop last went round, batch or not.")
        self._broker = gauge("broker_up", "1 if the broker answers, 0 if not.")
        self._checkpoints = counter("checkpoints_written", "Checkpoints that are on the disk.")
        self._checkpoint_failures = counter("checkpoint_failures", "Checkpoints that could not be written.")
        self._unreadable = counter("checkpoints_unreadable", "Checkpoints passed over at the start.")
        self._checkpoint_time = gauge(
            "last_checkpoint_timestamp_seconds", "When the newest checkpoint was written."
        )
        self._checkpoint_size = gauge("checkpoint_size_bytes", "Size of the newest checkpoint.")
        self._checkpoint_seconds = histogram(
            "checkpoint_duration_seconds", "From taking a checkpoint to having it on the disk.", STEP_BUCKETS
        )
        self._epsilon = gauge("privacy_epsilon", "ε spent so far on differential privacy; NaN without it.")
        self._budget = gauge("privacy_epsilon_budget", "ε that may be spent in all; NaN without it.")
        self._delta = gauge("privacy_delta", "δ at which ε is counted; NaN without differential privacy.")
        self._spent = gauge("privacy_spent", "1 when the budget is spent and learning has ended.")
        for privacy in (self._epsilon, self._budget, self._delta):
            privacy.set(math.nan)  # 0 would be a promise
        self._violations = counter("policy_violations", "What the policy forbids and happened.", ("rule",))
        self._violated = gauge(
            "policy_last_violation_timestamp_seconds",
            "When the policy was last violated, before a restart, too.",
            ("rule",),
        )
        for rule in ("residency", "purge", "ttl", "budget"):
            self._violations.labels(rule)  # 0 is worth showing, too
        self._purge_lag = gauge(
            "purge_lag_seconds", "How long the oldest record learned and not purged has been so."
        )
        self._unpurged = gauge("purge_lag_records", "Records learned and not purged from the broker.")
        self._purge_limit = gauge("purge_limit_seconds", "The policy's limit; infinite without one.")
        self._purge_limit.set(math.inf)
        self._kept_age = gauge(
            "samples_kept_age_seconds",
            "Where a policy says for how long: age of the oldest sample that the learner may keep; else 0.",
        )
        self._receipts = gauge("ledger_receipts", "Receipts in the ledger; 0 without one.")
        self._head = gauge("ledger_head", "First 12 hexadecimal digits of the newest receipt's SHA-256.")
        self._held_up = gauge("purge_held_up", "1 if a purge waits for another consumer group, 0 if not.")
        Info("lethe_build", "What is running.", registry=registry).info(build)

    def __call__(self, event: Event) -> None:
        """Take one event."""
        self._knowledge(event)
        self._run(event)
        match event:
            case BatchLearned():
                self._take_batch(event)
            case Turned():
                self._turned.set_to_current_time()
                self._resident.set(event.resident)
                self._resident_bytes.set(event.resident * self._sample_bytes)
                self._kept.set(event.kept)
            case RecordsReceived():
                self._received.inc(event.count)
            case RecordsDeadLettered():
                self._dead.labels(event.reason).inc(event.count)
            case RecordsLost():
                self._lost.inc(event.count)
            case PartitionsAdded():
                self._added.inc(len(event.partitions))
            case Lag():
                self._take_lag(event)
            case LearningBegan():
                self._start.labels("imports").set(event.imports_seconds)
                self._start.labels("rest").set(event.seconds - event.imports_seconds)
            case BrokerSeen():
                self._broker.set(event.up)
            case CheckpointWritten():
                self._checkpoints.inc()
                self._checkpoint_time.set_to_current_time()
                self._checkpoint_size.set(event.size_bytes)
                self._checkpoint_seconds.observe(event.seconds)
            case CheckpointFailed():
                self._checkpoint_failures.inc()
            case PrivacySpent():
                self._epsilon.set(event.epsilon)
                self._budget.set(event.budget)
                self._delta.set(event.delta)
                self._spent.set(event.spent)
            case PolicyViolated():
                self._violations.labels(event.rule).inc()
                self._violated.labels(event.rule).set(event.at)
            case ViolationLasts():
                self._violated.labels(event.rule).set(event.at)
            case PurgeLag():
                self._purge_lag.set(event.seconds)
                self._unpurged.set(event.records)
                self._purge_limit.set(event.within)
            case SamplesKept():
                self._kept_age.set(event.seconds)
            case LedgerStands():
                self._receipts.set(event.receipts)
                self._head.set(int(event.head[:HEAD_DIGITS], 16))
            case PurgeHeldUp():
                self._held_up.set(bool(event.waits_for))
            case CheckpointUnreadable():
                self._unreadable.inc()
            case Resumed():
                self._resume(event)
            case Evaluated():
                self._evaluation.observe(event.seconds)
            case Measured():
                self._take_prequential(event.scores.prequential_accuracy, event.scores.prequential_fading)

    def _resume(self, event: Resumed) -> None:
        if event.progressed is not None:
            self._progress.set(event.progressed)
        for rule, at in event.violated.items():
            self._violated.labels(rule).set(at)

    def _take_lag(self, event: Lag) -> None:
        for partition, offset in event.offsets.items():
            if partition not in self._partitions:  # looked up by its label once, not batch by batch
                self._partitions[partition] = (self._offset.labels(partition), self._lag.labels(partition))
            next_offset, lag = self._partitions[partition]
            next_offset.set(offset)
            lag.set(event.records[partition])

    def _take_batch(self, event: BatchLearned) -> None:
        self._learned.inc(event.samples)
        self._discarded.inc(event.discarded)
        self._step.observe(event.step_seconds)
        self._residency.observe(event.residency_seconds)
        self._latency.observe(max(0.0, event.latency_seconds))  # the producer's clock may be ahead
        self._progress.set(time.time())
        if event.loss is not None:
            self._loss.set(event.loss)
        self._take_prequential(event.prequential, event.prequential_fading)

    def _take_prequential(self, cumulative: float | None, fading: float | None) -> None:
        for kind, accuracy in (("cumulative", cumulative), ("fading", fading)):
            if accuracy is not None:
                self._prequential.labels(kind).set(accuracy)
