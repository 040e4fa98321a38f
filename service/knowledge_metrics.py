"""What the learner knows, and where the stream changed its subject, as Prometheus metrics."""

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Info

from service.events import (
    BoundariesJudged,
    Event,
    Measured,
    RegimeTold,
    SegmentStarted,
)

__all__ = ["KnowledgeMetrics"]


class KnowledgeMetrics:
    """Registers them in ``registry`` and keeps them up to date; a part of `service.metrics.Metrics`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, documentation: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"lethe_{name}", documentation, labels, registry=registry)

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
            "forgetting_ratio",
            "Best accuracy on an old probe, or on any where no segments are named, less the current one.",
            ("probe",),
        )
        self._forgetful = set[str]()
        self._visit = gauge("segment_visit", "Number of the segment being learned; 0 before the first.")
        self._started = Counter(
            "lethe_segments_started",
            "Segments that this process saw begin; what a restart goes on with does not begin.",
            registry=registry,
        )
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

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Measured():
                self._take_scores(event)
            case SegmentStarted():
                self._visit.set(event.visit)
                if not event.resumed:
                    self._started.inc()
                self._segment.info({"segment": event.name, "visit": str(event.visit)})
            case RegimeTold():
                self._regime.set(event.regime)
            case BoundariesJudged():
                self._take_verdict(event)
            case _:
                return

    def _take_scores(self, event: Measured) -> None:
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
        for probe in self._forgetful - event.scores.forgetting_by_probe.keys():
            self._forgetting.remove(probe)  # the first segment was named: no skill is old yet
        self._forgetful = set(event.scores.forgetting_by_probe)
        for after, row in enumerate(event.R):
            for probe, accuracy in zip(event.probes, row, strict=True):
                self._matrix.labels(str(after), probe).set(accuracy)

    def _take_verdict(self, event: BoundariesJudged) -> None:
        for verdict in ("found", "missed", "awaited", "false_alarms"):
            self._verdicts.labels(verdict).set(getattr(event, verdict))
        if event.delay is not None:
            self._delay.set(event.delay)
        self._regimes.labels("recognised").set(event.recognised)
        self._regimes.labels("unrecognised").set(event.returns - event.recognised)
        self._regimes.labels("mistaken").set(event.mistaken)
