"""Prometheus metrics of scores, segments, boundaries and regimes."""

import math
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Info

from lethe.events import (
    SCORES,
    BoundariesScored,
    ClassesNamed,
    Evaluated,
    Event,
    LossSurged,
    RegimeAssigned,
    ScoresUpdated,
    SegmentsCapped,
    SegmentsMixed,
    SegmentStarted,
    SegmentWithdrawn,
    SegmentWithoutProbe,
    WeightsMoved,
)

__all__ = ["LearningMetrics"]


class LearningMetrics:
    """Registers the metrics in ``registry`` and updates them; part of `Metrics`."""

    def __init__(self, registry: CollectorRegistry, class_names: Sequence[str] = ()) -> None:
        self._class_names = class_names

        def gauge(name: str, documentation: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"lethe_{name}", documentation, labels, registry=registry)

        self._accuracy = gauge("probe_accuracy_ratio", "Latest accuracy on a probe.", ("probe",))
        self._by_class = gauge(
            "probe_class_accuracy_ratio",
            "Latest accuracy on one class of a probe. A class without a name has its label as its name.",
            ("probe", "class", "label"),
        )
        self._classes = gauge("classes_named", "Classes that have a name, known or collected so far.")
        self._classes.set(len(class_names))
        self._ece = gauge(
            "probe_calibration_error_ratio", "Latest expected calibration error on a probe.", ("probe",)
        )
        self._matrix = gauge(
            "accuracy_matrix_ratio",
            "R: accuracy on a probe after a segment, each by its number and name; row 0 is the untrained "
            "learner.",
            ("after", "segment", "column", "probe"),
        )
        self._images = gauge(
            "probe_evaluated_samples", "Images of a probe that the latest evaluation used.", ("probe",)
        )
        self._feature_bytes = gauge(
            "probe_features_bytes", "Memory that keeps features of probe images for the next evaluation."
        )
        self._evaluated_at = gauge(
            "last_evaluation_timestamp_seconds", "When the probes were last evaluated; 0 if not yet."
        )
        self._scores = {
            name: gauge(info.metric, f"{info.label}: {info.brief}.")
            for name, info in SCORES.items()
            if info.metric is not None
        }
        for score in self._scores.values():
            score.set(math.nan)  # undefined; 0 would be a score
        self._forgetting = gauge(
            "forgetting_ratio",
            "Best minus current accuracy on an old probe; on every probe while no segment is named.",
            ("probe",),
        )
        self._old_probes = set[str]()
        self._visit = gauge("segment_visit", "Number of the segment being learned; 0 before the first.")
        self._started = Counter(
            "lethe_segments_started",
            "Segments that began in this process, withdrawn ones included; those continued after a "
            "restart are not counted.",
            registry=registry,
        )
        self._uncounted = Counter(
            "lethe_segments_uncounted",
            "Warnings that scores leave segments out: no probe has the name, names alternate too fast, or "
            "there are too many segments.",
            ("reason",),
            registry=registry,
        )
        for reason in ("without_probe", "mixed", "capped"):
            self._uncounted.labels(reason)
        self._verdicts = gauge(
            "boundary_verdicts", "Switches of the stream by outcome, and false alarms.", ("verdict",)
        )
        self._delay = gauge(
            "boundary_delay_samples",
            "Samples from the latest detected switch to its detection; NaN before the first.",
        )
        self._regime = gauge("regime", "Number of the regime assigned last; NaN before the first.")
        for unknown in (self._delay, self._regime):
            unknown.set(math.nan)
        self._regimes = gauge(
            "regime_verdicts", "Visits to segments by whether the right regime was assigned.", ("verdict",)
        )
        self._travelled = Counter(
            "lethe_weights_travelled",
            "Distance that the weights moved in this process, added up over every eight batches.",
            registry=registry,
        )
        self._gradient = gauge("gradient_norm", "Length of the gradient; measured in every sixteenth batch.")
        self._turn = gauge(
            "weight_step_cosine",
            "Cosine between the ways that the weights moved in the last eight batches and in those before.",
        )
        self._interference = gauge(
            "gradient_interference_cosine",
            "Cosine between every sixteenth batch's gradient and the running mean of those before; below 0 "
            "they pull apart.",
        )
        for unknown in (self._gradient, self._turn, self._interference):
            unknown.set(math.nan)
        self._surges = Counter(
            "lethe_loss_surges",
            "Rises of a network's loss far above the usual: early warnings of forgetting.",
            registry=registry,
        )
        self._segment = Info("lethe_segment", "The segment being learned.", registry=registry)

    def __call__(self, event: Event) -> None:
        """Handle one event."""
        match event:
            case Evaluated():
                self._evaluated_at.set_to_current_time()
                self._feature_bytes.set(event.feature_bytes)
                for probe, images in event.images.items():
                    self._images.labels(probe).set(images)
            case ClassesNamed():
                self._class_names = event.names
                self._classes.set(len(event.names))
            case ScoresUpdated():
                self._take_scores(event)
            case SegmentStarted():
                self._visit.set(event.visit)
                if not event.resumed:
                    self._started.inc()
                self._segment.info({"segment": event.name, "visit": str(event.visit)})
            case SegmentWithdrawn():
                self._visit.set(event.visit)
                known = (
                    {} if event.continues is None else {"segment": event.continues, "visit": str(event.visit)}
                )
                self._segment.info(known)
            case SegmentWithoutProbe():
                self._uncounted.labels("without_probe").inc()
            case SegmentsMixed():
                self._uncounted.labels("mixed").inc()
            case SegmentsCapped():
                self._uncounted.labels("capped").inc()
            case WeightsMoved():
                self._take_step(event)
            case LossSurged():
                self._surges.inc()
            case RegimeAssigned():
                self._regime.set(event.regime)
            case BoundariesScored():
                self._take_verdict(event)
            case _:
                return

    def _take_step(self, event: WeightsMoved) -> None:
        self._gradient.set(event.gradient)
        if event.step is not None:
            self._travelled.inc(event.step)
        if event.turn is not None:
            self._turn.set(event.turn)
        if event.interference is not None:
            self._interference.set(event.interference)

    def _take_scores(self, event: ScoresUpdated) -> None:
        for probe, reading in event.readings.items():
            self._accuracy.labels(probe).set(reading.accuracy)
            self._ece.labels(probe).set(reading.ece)
            for label, right in enumerate(reading.by_class):
                if right is not None:
                    named = label < len(self._class_names)
                    name = self._class_names[label] if named else str(label)
                    self._by_class.labels(probe, name, str(label)).set(right)
        for name, score in self._scores.items():
            value = getattr(event.scores, name)
            score.set(math.nan if value is None else value)
        for probe, value in event.forgetting_by_probe.items():
            self._forgetting.labels(probe).set(value)
        for probe in self._old_probes - event.forgetting_by_probe.keys():
            self._forgetting.remove(probe)  # the first segment was named: no probe is old yet
        self._old_probes = set(event.forgetting_by_probe)
        for after, (segment, row) in enumerate(zip(("untrained", *event.segments), event.R, strict=False)):
            for column, (probe, accuracy) in enumerate(zip(event.probes, row, strict=True), start=1):
                self._matrix.labels(str(after), segment, str(column), probe).set(accuracy)

    def _take_verdict(self, event: BoundariesScored) -> None:
        for verdict in ("found", "missed", "awaited", "false_alarms"):
            self._verdicts.labels(verdict).set(getattr(event, verdict))
        if event.delay is not None:
            self._delay.set(event.delay)
        self._regimes.labels("recognised").set(event.recognised)
        self._regimes.labels("unrecognised").set(event.returns - event.recognised)
        self._regimes.labels("mistaken").set(event.mistaken)
