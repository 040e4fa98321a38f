"""Events to Prometheus metrics; everything is named ``lethe_…`` in base units, accuracies as ratios."""

import math
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from service.events import (
    BatchLearned,
    BoundariesJudged,
    BoundaryDetected,
    BrokerSeen,
    CheckpointFailed,
    CheckpointUnreadable,
    CheckpointWritten,
    Evaluated,
    Event,
    Lag,
    LearningBegan,
    Measured,
    PolicyViolated,
    PrivacySpent,
    PurgeHeldUp,
    PurgeLag,
    RecordsDeadLettered,
    RecordsLost,
    RecordsReceived,
    RegimeTold,
    Resumed,
    SamplesKept,
    SegmentStarted,
    Turned,
)

__all__ = ["Metrics"]

STEP_BUCKETS = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
AGE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
EVALUATION_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Registers every metric of a run in ``registry`` and keeps it up to date.

    ``sample_bytes`` is the size of one sample's pixels, ``build`` the labels of
    ``lethe_build_info``.
    """

    def __init__(self, registry: CollectorRegistry, sample_bytes: int, build: dict[str, str]) -> None:
        self._sample_bytes = sample_bytes

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
        self._resident = gauge("samples_resident", "Samples whose pixels are in the service now.")
        self._resident_bytes = gauge("samples_resident_bytes", "Bytes of those pixels.")
        self._accuracy = gauge("probe_accuracy_ratio", "Accuracy on a probe, as last measured.", ("probe",))
        self._by_class = gauge(
            "probe_class_accuracy_ratio",
            "Accuracy on a probe's images of one class, as last measured.",
            ("probe", "class"),
        )
        self._ece = gauge(
            "probe_calibration_error_ratio", "ECE: how far confidence is from accuracy.", ("probe",)
        )
        self._matrix = gauge(
            "accuracy_matrix_ratio",
            "R: accuracy on a probe after a segment; 0 is the untrained learner.",
            ("after", "probe"),
        )
        self._scores = {
            "acc": gauge("average_accuracy_ratio", "ACC: mean accuracy over the probes seen so far."),
            "bwt": gauge("backward_transfer_ratio", "BWT: below 0 is forgetting."),
            "fwt": gauge("forward_transfer_ratio", "FWT: what earlier segments taught about later ones."),
            "min_acc": gauge("min_accuracy_ratio", "min-ACC: mean of old probes' lowest accuracy since."),
            "wc_acc": gauge("worst_case_accuracy_ratio", "WC-ACC: min-ACC weighed with the current probe."),
            "windowed_forgetting": gauge(
                "windowed_forgetting_ratio", "WF: a probe's largest drop within a window; mean over probes."
            ),
            "windowed_plasticity": gauge(
                "windowed_plasticity_ratio", "WP: a probe's largest rise within a window; mean over probes."
            ),
            "anytime_accuracy": gauge("anytime_accuracy_ratio", "Mean over time of ACC."),
        }
        for score in self._scores.values():
            score.set(math.nan)  # not defined yet, and 0 would be a score
        self._forgetting = gauge(
            "forgetting_ratio", "Best accuracy on an old probe less the current one.", ("probe",)
        )
        self._prequential = gauge(
            "prequential_accuracy_ratio", "Accuracy on each batch before it is learned.", ("kind",)
        )
        self._lag = gauge("partition_lag_records", "Records in the topic, not yet learned.", ("partition",))
        self._offset = gauge("partition_offset", "First offset not yet learned.", ("partition",))
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
        self._visit = gauge("segment_visit", "Number of the segment being learned; 0 before the first.")
        self._boundaries = counter(
            "boundaries_detected", "Changes of subject found in the stream itself.", ("signal",)
        )
        for signal in ("features", "error", "loss"):
            self._boundaries.labels(signal)  # 0 is worth showing
        self._verdicts = gauge(
            "boundary_verdicts", "Switches of the stream, and alarms without one, so far.", ("verdict",)
        )
        self._delay = gauge(
            "boundary_delay_samples", "From the latest switch that was found until it was; NaN before."
        )
        self._regime = gauge("regime", "Number of the regime that was told last; NaN before the first.")
        for unknown in (self._delay, self._regime):
            unknown.set(math.nan)
        self._regimes = gauge(
            "regime_verdicts", "Visits to segments whose regime was told right, or not, so far.", ("verdict",)
        )
        self._segment = Info("lethe_segment", "The segment being learned.", registry=registry)
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
        for rule in ("residency", "purge", "ttl", "budget"):
            self._violations.labels(rule)  # 0 is worth showing, too
        self._purge_lag = gauge(
            "purge_lag_seconds", "How long the oldest record learned and not purged has been so."
        )
        self._unpurged = gauge("purge_lag_records", "Records learned and not purged from the broker.")
        self._purge_limit = gauge("purge_limit_seconds", "The policy's limit; infinite without one.")
        self._purge_limit.set(math.inf)
        self._kept = gauge(
            "samples_kept_age_seconds", "Age of the oldest sample that the learner may keep; 0 without any."
        )
        self._held_up = gauge("purge_held_up", "1 if a purge waits for another consumer group, 0 if not.")
        Info("lethe_build", "What is running.", registry=registry).info(build)

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case BatchLearned():
                self._take_batch(event)
            case Turned():
                self._turned.set_to_current_time()
                self._resident.set(event.resident)
                self._resident_bytes.set(event.resident * self._sample_bytes)
            case RecordsReceived():
                self._received.inc(event.count)
            case RecordsDeadLettered():
                self._dead.labels(event.reason).inc(event.count)
            case RecordsLost():
                self._lost.inc(event.count)
            case Lag():
                self._lag.labels(str(event.partition)).set(event.records)
                self._offset.labels(str(event.partition)).set(event.offset)
            case LearningBegan():
                self._start.labels("imports").set(event.imports_seconds)
                self._start.labels("rest").set(event.seconds - event.imports_seconds)
            case SegmentStarted():
                self._visit.set(event.visit)
                self._segment.info({"segment": event.name, "visit": str(event.visit)})
            case BoundaryDetected():
                self._boundaries.labels(event.signal).inc()
            case RegimeTold():
                self._regime.set(event.regime)
            case BoundariesJudged():
                self._take_verdict(event)
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
            case PurgeLag():
                self._purge_lag.set(event.seconds)
                self._unpurged.set(event.records)
                self._purge_limit.set(event.within)
            case SamplesKept():
                self._kept.set(event.seconds)
            case PurgeHeldUp():
                self._held_up.set(bool(event.waits_for))
            case CheckpointUnreadable():
                self._unreadable.inc()
            case Resumed():
                self._resume(event)
            case Evaluated():
                self._evaluation.observe(event.seconds)
            case Measured():
                self._take_scores(event)

    def _resume(self, event: Resumed) -> None:
        """Let the counters go on where the run was, not where this process began."""
        self._received.inc(event.received)
        self._learned.inc(event.learned)
        self._discarded.inc(event.learned)
        self._lost.inc(event.lost)
        if event.progressed is not None:
            self._progress.set(event.progressed)
        for reason, count in event.dead.items():
            self._dead.labels(reason).inc(count)
        for signal, count in event.boundaries.items():
            self._boundaries.labels(signal).inc(count)

    def _take_verdict(self, event: BoundariesJudged) -> None:
        for verdict in ("found", "missed", "awaited", "false_alarms"):
            self._verdicts.labels(verdict).set(getattr(event, verdict))
        if event.delay is not None:
            self._delay.set(event.delay)
        self._regimes.labels("recognised").set(event.recognised)
        self._regimes.labels("unrecognised").set(event.returns - event.recognised)
        self._regimes.labels("mistaken").set(event.mistaken)

    def _take_batch(self, event: BatchLearned) -> None:
        self._learned.inc(event.samples)
        self._discarded.inc(event.samples)
        self._step.observe(event.step_seconds)
        self._residency.observe(event.residency_seconds)
        self._latency.observe(max(0.0, event.latency_seconds))  # the producer's clock may be ahead
        self._progress.set(time.time())
        for gauge, value in (
            (self._prequential.labels("cumulative"), event.prequential),
            (self._prequential.labels("fading"), event.prequential_fading),
            (self._loss, event.loss),
        ):
            if value is not None:
                gauge.set(value)

    def _take_scores(self, event: Measured) -> None:
        for kind, prequential in (
            ("cumulative", event.scores.prequential_accuracy),
            ("fading", event.scores.prequential_fading),
        ):
            if prequential is not None:
                self._prequential.labels(kind).set(prequential)
        for probe, reading in event.readings.items():
            self._accuracy.labels(probe).set(reading.accuracy)
            self._ece.labels(probe).set(reading.ece)
            for label, right in enumerate(reading.by_class):
                if right is not None:
                    self._by_class.labels(probe, str(label)).set(right)
        for name, score in self._scores.items():
            value = getattr(event.scores, name)
            score.set(math.nan if value is None else value)
        for probe, value in event.scores.forgetting_by_probe.items():
            self._forgetting.labels(probe).set(value)
        for after, row in enumerate(event.R):
            for probe, accuracy in zip(event.probes, row, strict=True):
                self._matrix.labels(str(after), probe).set(accuracy)
