"""Exports events as Prometheus metrics, named ``lethe_…`` in base units, with accuracies as ratios."""

import math
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from lethe.events import (
    BatchLearned,
    BatchReturned,
    BrokerStatus,
    CheckpointFailed,
    CheckpointUnreadable,
    CheckpointWritten,
    CommitStatus,
    Evaluated,
    Event,
    LabelsJoined,
    Lag,
    LearningStarted,
    LedgerHead,
    LoopTurned,
    PartitionsAdded,
    PolicyViolated,
    PredictionsStatus,
    PredictionsWritten,
    PrivacySpent,
    PurgeBlocked,
    PurgeLag,
    RecordsDeadLettered,
    RecordsLost,
    RecordsReceived,
    RecordsUnlabelled,
    Resumed,
    SamplesRetained,
    ViolationPersists,
    WitnessStatus,
)
from lethe.observability.learning_metrics import LearningMetrics
from lethe.observability.rank_metrics import RankMetrics
from lethe.observability.run_metrics import RunMetrics

__all__ = ["EVALUATION_BUCKETS", "LABELS_DROPPED", "Metrics"]

STEP_BUCKETS = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
AGE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
LABELS_DROPPED = ("no_key", "no_value", "too_long", "replaced", "unmatched")
"""Reasons for which a late label is of no sample; each has a series from the start."""
HEAD_DIGITS = 12
"""Hexadecimal digits of the ledger's head that a float64 holds exactly."""
EVALUATION_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Registers every metric of a run in ``registry`` and updates them from events.

    ``sample_bytes`` is the size of the pixels of one sample, ``build`` the labels of ``lethe_build_info``,
    ``class_names`` the names of the classes by label, if they have any.
    Counters count since the start of the process; totals of the run are gauges.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        sample_bytes: int,
        build: dict[str, str],
        class_names: Sequence[str] = (),
    ) -> None:
        self._sample_bytes = sample_bytes
        self._learning, self._run = LearningMetrics(registry, class_names), RunMetrics(registry)
        self._ranks = RankMetrics(registry)

        def counter(name: str, documentation: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"lethe_{name}", documentation, labels, registry=registry)

        def gauge(name: str, documentation: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"lethe_{name}", documentation, labels, registry=registry)

        def histogram(name: str, documentation: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"lethe_{name}", documentation, buckets=buckets, registry=registry)

        self._received = counter("samples_received", "Records read from the topic, valid or malformed.")
        self._learned = counter("samples_learned", "Samples learned, each once.")
        self._discarded = counter(
            "samples_discarded", "Samples whose pixels were overwritten after they were learned."
        )
        self._unlabelled = counter(
            "samples_unlabelled", "Samples without a label, discarded without being learned."
        )
        self._joined = counter("labels_joined", "Samples learned with a label that came later.")
        self._dropped = counter(
            "labels_dropped", "Late labels that were of no sample, by reason.", ("reason",)
        )
        for reason in LABELS_DROPPED:
            self._dropped.labels(reason)
        self._dead = counter("samples_dead_lettered", "Malformed records, by reason.", ("reason",))
        self._lost = counter("samples_lost", "Offsets that the broker never served.")
        self._given_back = counter(
            "batches_given_back", "Incomplete batches that waited too long and were returned to the broker."
        )
        self._returns = gauge(
            "batch_returns",
            "How often in a row the same batch was returned to the broker; 0 once it is read.",
        )
        self._added = counter("partitions_added", "Partitions added to the topic during the run.")
        self._resident = gauge("samples_resident", "Samples whose pixels are in the service.")
        self._resident_bytes = gauge("samples_resident_bytes", "Bytes of those pixels.")
        self._kept = gauge("samples_kept", "Samples of earlier batches that the learner keeps.")
        self._prequential = gauge(
            "prequential_accuracy_ratio",
            "Accuracy on each batch before it is learned; kind estimated is fading, from confidences alone, "
            "and includes samples without a label.",
            ("kind",),
        )
        self._lag = gauge(
            "partition_lag_records", "Records in the topic that are not learned yet.", ("partition",)
        )
        self._offset = gauge("partition_offset", "First offset that is not learned yet.", ("partition",))
        self._partitions: dict[int, tuple[Gauge, Gauge]] = {}
        self._latency = histogram(
            "end_to_end_latency_seconds",
            "From the producer's timestamp of the first sample of a batch until it was learned.",
            AGE_BUCKETS,
        )
        self._residency = histogram(
            "sample_residency_seconds",
            "From the arrival of the first sample of a batch to its discard.",
            AGE_BUCKETS,
        )
        self._step = histogram("step_duration_seconds", "Predicting and learning one batch.", STEP_BUCKETS)
        self._evaluation = histogram(
            "evaluation_duration_seconds", "Evaluating all probes once.", EVALUATION_BUCKETS
        )
        self._loss = gauge(
            "batch_loss", "Mean loss of the last batch before it was learned; NaN before the first."
        )
        self._loss.set(math.nan)
        self._progress = gauge("last_progress_timestamp_seconds", "When the last batch was learned.")
        self._start = gauge(
            "start_duration_seconds",
            "From the start of the process to the first learned batch, by part: imports, or the rest.",
            ("part",),
        )
        self._turned = gauge(
            "last_turn_timestamp_seconds", "When the loop last completed a turn, with or without a batch."
        )
        self._broker = gauge("broker_up", "1 if the broker answers, 0 if not.")
        self._commits_failing = gauge(
            "commits_failing",
            "1 if the broker rejects offset commits, 0 if not.",
        )
        self._predictions = counter("predictions_written", "Predictions written to their topic.")
        self._predictions_waiting = gauge(
            "predictions_waiting", "1 if learning waits because predictions cannot be written, 0 if not."
        )
        self._checkpoints = counter("checkpoints_written", "Checkpoints written to the disk.")
        self._checkpoint_failures = counter("checkpoint_failures", "Checkpoints that could not be written.")
        self._unreadable = counter("checkpoints_unreadable", "Unreadable checkpoints skipped at the start.")
        self._checkpoint_time = gauge(
            "last_checkpoint_timestamp_seconds", "When the newest checkpoint was written."
        )
        self._checkpoint_size = gauge("checkpoint_size_bytes", "Size of the newest checkpoint.")
        self._checkpoint_seconds = histogram(
            "checkpoint_duration_seconds", "From taking a checkpoint to having it on the disk.", STEP_BUCKETS
        )
        self._account = _PrivacyAccount(registry)
        self._spent = gauge(
            "privacy_spent", "1 if the privacy budget is spent and learning has ended, 0 if not."
        )
        self._simulated = gauge(
            "privacy_simulated",
            "1 if the noise of a private learner is seeded: nothing is private, and no ε is exported.",
        )
        self._violations = counter("policy_violations", "Violations of the policy.", ("rule",))
        self._violated = gauge(
            "policy_last_violation_timestamp_seconds",
            "When the policy was last violated, also before a restart.",
            ("rule",),
        )
        for rule in ("residency", "purge", "ttl", "budget"):
            self._violations.labels(rule)  # exported as 0 before the first
        self._purge_lag = gauge(
            "purge_lag_seconds", "Time since the oldest record was learned that is not purged yet."
        )
        self._unpurged = gauge("purge_lag_records", "Records learned but not purged from the broker yet.")
        self._purge_limit = gauge(
            "purge_limit_seconds", "The policy's limit for purges; infinite without one."
        )
        self._purge_limit.set(math.inf)
        self._kept_age = gauge(
            "samples_kept_age_seconds",
            "Age of the oldest sample that the learner or a checkpoint may hold; 0 without a time to live.",
        )
        self._receipts = gauge("ledger_receipts", "Receipts in the ledger; 0 without one.")
        self._witness_up = gauge(
            "witness_up",
            "1 if the newest ledger head is published to the witness, 0 if not; NaN without a witness.",
        )
        self._witness_up.set(math.nan)
        self._witnessed = gauge(
            "witness_receipts", "Receipts covered by the newest head published to the witness."
        )
        self._head = gauge("ledger_head", "First 12 hexadecimal digits of the newest receipt's SHA-256.")
        self._held_up = gauge("purge_held_up", "1 if a purge waits for another consumer group, 0 if not.")
        Info("lethe_build", "Learner and versions of the service.", registry=registry).info(build)

    def __call__(self, event: Event) -> None:
        """Handle one event."""
        self._learning(event)
        self._run(event)
        self._ranks(event)
        match event:
            case BatchLearned():
                self._take_batch(event)
            case LoopTurned():
                self._turned.set_to_current_time()
                self._resident.set(event.resident)
                self._resident_bytes.set(event.resident * self._sample_bytes)
                self._kept.set(event.kept)
            case RecordsReceived():
                self._received.inc(event.count)
                self._returns.set(0)
            case BatchReturned():
                self._given_back.inc()
                self._returns.set(event.times)
            case LabelsJoined():
                self._joined.inc(event.count)
                for reason, count in event.dropped.items():
                    self._dropped.labels(reason).inc(count)
            case RecordsUnlabelled():
                self._unlabelled.inc(event.count)
                self._take_estimated(event.estimated)
            case RecordsDeadLettered():
                self._dead.labels(event.reason).inc(event.count)
            case RecordsLost():
                self._lost.inc(event.count)
            case PartitionsAdded():
                self._added.inc(len(event.partitions))
            case Lag():
                self._take_lag(event)
            case LearningStarted():
                self._start.labels("imports").set(event.imports_seconds)
                self._start.labels("rest").set(event.seconds - event.imports_seconds)
            case BrokerStatus():
                self._broker.set(event.up)
            case CommitStatus():
                self._commits_failing.set(bool(event.failure))
            case PredictionsWritten():
                self._predictions.inc(event.count)
            case PredictionsStatus():
                self._predictions_waiting.set(bool(event.waits_for))
            case CheckpointWritten():
                self._checkpoints.inc()
                self._checkpoint_time.set_to_current_time()
                self._checkpoint_size.set(event.size_bytes)
                self._checkpoint_seconds.observe(event.seconds)
            case CheckpointFailed():
                self._checkpoint_failures.inc()
            case PrivacySpent():
                self._spent.set(event.spent)
                self._simulated.set(event.simulated)
                if not event.simulated:
                    self._account(event)
            case PolicyViolated():
                self._violations.labels(event.rule).inc()
                self._violated.labels(event.rule).set(event.at)
            case ViolationPersists():
                self._violated.labels(event.rule).set(event.at)
            case PurgeLag():
                self._purge_lag.set(event.seconds)
                self._unpurged.set(event.records)
                self._purge_limit.set(event.within)
            case SamplesRetained():
                self._kept_age.set(event.seconds)
            case WitnessStatus():
                self._witness_up.set(event.up)
                self._witnessed.set(event.receipts)
            case LedgerHead():
                self._receipts.set(event.receipts)
                self._head.set(int(event.head[:HEAD_DIGITS], 16))
            case PurgeBlocked():
                self._held_up.set(bool(event.waits_for))
            case CheckpointUnreadable():
                self._unreadable.inc()
            case Resumed():
                self._resume(event)
            case Evaluated():
                self._evaluation.observe(event.seconds)
            case _:
                return

    def _resume(self, event: Resumed) -> None:
        if event.progressed is not None:
            self._progress.set(event.progressed)
        for rule, at in event.violated.items():
            self._violated.labels(rule).set(at)
        self._take_prequential(event.prequential, event.prequential_fading)

    def _take_lag(self, event: Lag) -> None:
        for partition, offset in event.offsets.items():
            if partition not in self._partitions:  # looking up a label for each batch is slow
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
        self._progress.set(event.at)
        if event.loss is not None:
            self._loss.set(event.loss)
        self._take_estimated(event.estimated)
        self._take_prequential(event.prequential, event.prequential_fading)

    def _take_estimated(self, estimated: float | None) -> None:
        if estimated is not None:
            self._prequential.labels("estimated").set(estimated)

    def _take_prequential(self, cumulative: float | None, fading: float | None) -> None:
        for kind, accuracy in (("cumulative", cumulative), ("fading", fading)):
            if accuracy is not None:
                self._prequential.labels(kind).set(accuracy)


class _PrivacyAccount:
    """The privacy account; its metrics are registered with the first `PrivacySpent`.

    For a learner without a guarantee, any number would look like one.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._gauges: tuple[Gauge, Gauge, Gauge] | None = None

    def __call__(self, event: PrivacySpent) -> None:
        if self._gauges is None:
            self._gauges = (
                self._gauge("epsilon", "ε spent so far; absent without a guarantee."),
                self._gauge("epsilon_budget", "Budget of ε; absent without a guarantee."),
                self._gauge("delta", "δ of the guarantee; absent without one."),
            )
        for gauge, value in zip(self._gauges, (event.epsilon, event.budget, event.delta), strict=True):
            gauge.set(value)

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(f"lethe_privacy_{name}", documentation, registry=self._registry)
