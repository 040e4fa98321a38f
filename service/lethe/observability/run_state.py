"""The state of a run, collected from its events: the source of ``/state``, run.json and checkpoint counts."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from lethe.evaluation.boundary_scores import Boundaries
from lethe.evaluation.history import History, HistorySnapshot
from lethe.evaluation.objective import FloorTime, chance_accuracy, sampling_noise, within_floors
from lethe.events import (
    BatchLearned,
    BoundariesScored,
    BoundaryDetected,
    BrokerStatus,
    ClassesNamed,
    Evaluated,
    Event,
    LabelsJoined,
    Lag,
    LearningStarted,
    LoopTurned,
    PolicyViolated,
    PrivacySpent,
    RecordsDeadLettered,
    RecordsLost,
    RecordsUnlabelled,
    RegimeAssigned,
    RequestsMade,
    Resumed,
    SampleCounts,
    Scores,
    ScoresUpdated,
    SegmentStarted,
    SegmentWithdrawn,
    TargetStatus,
    TopicRecreated,
    ViolationPersists,
)
from lethe.learners.base import Learner
from lethe.learners.state import JSON
from lethe.observability.model_standing import ModelStanding
from lethe.observability.peak_memory import peak_rss_bytes
from lethe.observability.result import (
    ClassPoint,
    EvaluationPoint,
    PrequentialPoint,
    PrivacyAccount,
    RunResult,
    SegmentSwitch,
)
from lethe.observability.throughput import Throughput
from lethe.settings import Settings

__all__ = ["RunSnapshot", "RunState", "Subject"]

_HISTORY_CHANGED = (
    BoundaryDetected,
    RegimeAssigned,
    Resumed,
    ScoresUpdated,
    SegmentStarted,
    SegmentWithdrawn,
)


_NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})


class RunSnapshot(NamedTuple):
    """All that is known of a run after one event; nothing in it changes afterwards.

    Its mappings are replaced, never updated. Times of the monotonic clock are named ``…_at``.
    """

    history: HistorySnapshot
    turned_at: float
    """When the loop last turned, or evaluated."""
    worked_at: float
    """When it last learned, or evaluated."""
    counts: SampleCounts = SampleCounts()
    dead_letters: Mapping[str, int] = _NOTHING
    """Malformed records by reason."""
    labels_joined: int = 0
    """Samples learned with a label that came later."""
    labels_dropped: Mapping[str, int] = _NOTHING
    """Late labels that were of no sample, by reason."""
    class_names: tuple[str, ...] = ()
    """By number, as far as classes have names."""
    boundaries: Mapping[str, int] = _NOTHING
    """Detected boundaries by signal."""
    boundaries_scored: BoundariesScored | None = None
    regime: int | None = None
    violated: Mapping[str, float] = _NOTHING
    """When each rule of the policy was last violated, in seconds since 1970."""
    positions: Mapping[int, int] = _NOTHING
    lags: Mapping[int, int] = _NOTHING
    progressed: float | None = None
    """When a batch was last learned, in seconds since 1970."""
    lost: float | None = None
    """When records were last lost, in seconds since 1970."""
    start: LearningStarted | None = None
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    throughput: Throughput = Throughput()
    scores: ScoresUpdated | None = None
    stream_scores: Mapping[str, float | None] = _NOTHING
    """The scores of the stream itself, by name, which are newer than ``scores``."""
    fading_accuracy: float | None = None
    estimated_accuracy: float | None = None
    images: Mapping[str, int] = _NOTHING
    """Images of each probe that the latest evaluation used."""
    floors: FloorTime = FloorTime()
    """Up to the latest evaluation."""
    within: bool | None = None
    """Whether every old skill was within its floor in the latest evaluation; None if none had one."""
    scored_at: float = 0.0
    """When that was."""
    privacy: PrivacyAccount | None = None
    broker: BrokerStatus = BrokerStatus(up=False, detail="not reached yet")
    asked: RequestsMade | None = None
    """The latest round of requests to a watched model."""


class Subject(NamedTuple):
    """What a run is about: a learner, or a model that is only watched."""

    name: str
    retains: str
    summary: str
    source: Literal["learned", "watched"] = "learned"
    address: str | None = None
    """Where a watched model is."""

    @classmethod
    def learner(cls, kind: type[Learner], settings: Settings) -> "Subject":
        """Return the subject of a run with a learner of this ``kind``."""
        retention = kind.retention(settings.sample, settings.learner.options)
        return cls(kind.name, retention.value, kind.summary)


class RunState:
    """A subscriber that keeps the state of a run.

    Events are handled on the loop's thread. Each replaces the snapshot, from which any thread reads: the
    mutable history is read by the loop's thread alone.
    """

    def __init__(
        self,
        settings: Settings,
        kind: type[Learner] | Subject,
        history: History,
        clock: Callable[[], float] = time.monotonic,
        class_names: Sequence[str] = (),
        probe_hashes: Mapping[str, str] = _NOTHING,
    ) -> None:
        self._probe_hashes = dict(probe_hashes)
        self._subject = kind if isinstance(kind, Subject) else Subject.learner(kind, settings)
        self._settings, self._history, self._clock = settings, history, clock
        self._started: float | None = None
        self._seconds_before = 0.0
        self.readers_peak_rss_bytes = 0
        """Peak memory of the processes that read, once they have ended."""
        now = clock()
        self._snapshot = RunSnapshot(
            history.snapshot(),
            now,
            now,
            class_names=tuple(class_names),
            stream_scores=history.stream_scores,
            fading_accuracy=history.prequential.fading,
            estimated_accuracy=history.estimated.fading,
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes by number, as far as they have any."""
        return self._snapshot.class_names

    def __call__(self, event: Event) -> None:
        """Handle one event."""
        snapshot = self._after(event)
        if isinstance(event, _HISTORY_CHANGED):
            snapshot = snapshot._replace(history=self._history.snapshot())
        self._snapshot = snapshot

    def _after(self, event: Event) -> RunSnapshot:
        now = self._snapshot
        counts = now.counts.after(event)
        match event:
            case Resumed():
                return now._replace(
                    counts=counts,
                    dead_letters=dict(event.dead),
                    labels_joined=event.labels_joined,
                    labels_dropped=dict(event.labels_dropped),
                    boundaries=dict(event.boundaries),
                    violated=dict(event.violated),
                    lost=event.lost_at,
                    stream_scores=self._history.stream_scores,
                    fading_accuracy=self._history.prequential.fading,
                    estimated_accuracy=self._history.estimated.fading,
                )
            case LoopTurned():
                return now._replace(counts=counts, turned_at=self._clock())
            case LearningStarted():
                return now._replace(start=event)
            case BatchLearned():
                return self._after_batch(event, counts)
            case RecordsDeadLettered():
                reasons = now.dead_letters
                count = reasons.get(event.reason, 0) + event.count
                return now._replace(counts=counts, dead_letters={**reasons, event.reason: count})
            case LabelsJoined():
                return now._replace(
                    labels_joined=now.labels_joined + event.count,
                    labels_dropped=dict(Counter(now.labels_dropped) + Counter(event.dropped)),
                )
            case RecordsUnlabelled():
                return now._replace(counts=counts, estimated_accuracy=self._history.estimated.fading)
            case RecordsLost():
                return now._replace(counts=counts, lost=time.time())
            case TopicRecreated():
                return now._replace(lost=time.time(), positions={}, lags={})
            case ClassesNamed():
                return now._replace(class_names=event.names)
            case BoundaryDetected():
                found = now.boundaries.get(event.signal, 0) + 1
                return now._replace(boundaries={**now.boundaries, event.signal: found})
            case RegimeAssigned():
                return now._replace(regime=event.regime)
            case BoundariesScored():
                return now._replace(boundaries_scored=event)
            case Lag():
                return now._replace(
                    positions={**now.positions, **event.offsets},
                    lags={**now.lags, **event.records},
                )
            case Evaluated():
                return self._after_evaluation(event)
            case ScoresUpdated():
                return now._replace(
                    scores=event,
                    floors=self._floors(now),
                    within=within_floors(event.accuracy, event.forgetting_by_probe),
                    scored_at=self._clock(),
                )
            case PrivacySpent():
                return now._replace(privacy=PrivacyAccount.of(event))
            case PolicyViolated() | ViolationPersists():
                return now._replace(violated={**now.violated, event.rule: event.at})
            case BrokerStatus():
                return now._replace(broker=event)
            case RequestsMade():
                return now._replace(asked=event)
            case TargetStatus():  # what a watched model is to its service, as the broker is to a run
                return now._replace(broker=BrokerStatus(event.up, event.detail))
            case _:
                return now if counts is now.counts else now._replace(counts=counts)

    def _after_batch(self, event: BatchLearned, counts: SampleCounts) -> RunSnapshot:
        now, at = self._snapshot, self._clock()
        if self._started is None:
            self._started = at - event.step_seconds
        seconds = self._seconds_before + at - self._started
        return now._replace(
            counts=counts,
            progressed=event.at,
            seconds=seconds,
            worked_at=at,
            throughput=now.throughput.add(counts.learned, seconds - now.evaluation_seconds),
            stream_scores=self._history.stream_scores,
            fading_accuracy=self._history.prequential.fading,
            estimated_accuracy=self._history.estimated.fading,
        )

    def _after_evaluation(self, event: Evaluated) -> RunSnapshot:
        now, at = self._snapshot._replace(images=dict(event.images)), self._clock()
        if self._started is None:  # of the untrained learner: it is no part of the run's time
            return now._replace(turned_at=at, worked_at=at)
        return now._replace(
            turned_at=at,
            worked_at=at,
            evaluation_seconds=now.evaluation_seconds + event.seconds,
            seconds=self._seconds_before + at - self._started,
        )

    def _floors(self, now: RunSnapshot) -> FloorTime:
        """Return the time within floors, with that since the latest evaluation."""
        if now.within is None:
            return now.floors
        return now.floors.after(self._clock() - now.scored_at, time.time(), within=now.within)

    def counts(self, unsettled: Mapping[str, int] | None = None) -> Resumed:
        """Return the counts that a checkpoint stores, as the event that restores them.

        ``unsettled`` holds malformed records, by reason, that a restart reads and counts again.
        """
        now, again = self._snapshot, Counter(unsettled or {})
        return Resumed(
            now.counts.received - again.total(),
            now.counts.learned,
            dict(Counter(now.dead_letters) - again),
            now.counts.lost,
            dict(now.boundaries),
            unlabelled=now.counts.unlabelled,
            labels_joined=now.labels_joined,
            labels_dropped=dict(now.labels_dropped),
        )

    def timing(self) -> dict[str, JSON]:
        """Return the times that a checkpoint stores; they differ between any two runs."""
        now = self._snapshot
        marks: list[JSON] = [[samples, seconds] for samples, seconds in now.throughput.marks]
        return {
            "seconds": now.seconds,
            "evaluation_seconds": now.evaluation_seconds,
            "marks": marks,
            "floors": [list(day) for day in self._floors(now).days],
            "progressed": now.progressed,
            "violated": dict(now.violated),
            "lost_at": now.lost,
        }

    def resume_timing(self, timing: dict[str, Any]) -> None:
        """Continue from what `timing` returned before a restart; the downtime does not count."""
        self._seconds_before = timing["seconds"]
        self._snapshot = self._snapshot._replace(
            seconds=timing["seconds"],
            evaluation_seconds=timing["evaluation_seconds"],
            progressed=timing["progressed"],
            throughput=Throughput(tuple((samples, seconds) for samples, seconds in timing["marks"])),
            # missing in older checkpoints
            floors=FloorTime(tuple((day, every, below) for day, every, below in timing.get("floors", ()))),
        )

    @property
    def alive(self) -> bool:
        """Whether the loop has turned recently."""
        return self._is_alive(self._snapshot)

    @property
    def waits_for(self) -> str:
        """Why the broker does not answer; empty while it does, or while nothing is known."""
        broker = self._snapshot.broker
        return "" if broker.up else broker.detail

    @property
    def ready(self) -> bool:
        """Whether partitions are assigned and the broker answers."""
        return self._snapshot.broker.up

    @property
    def probes(self) -> Sequence[str]:
        """Names of the probes."""
        return self._history.probes

    @property
    def watched(self) -> bool:
        """Whether the model is only watched."""
        return self._subject.source == "watched"

    def state(self) -> dict[str, Any]:
        """Return the state of the run as plain JSON."""
        now = self._snapshot
        latest, segments = now.scores, now.history.segments
        return {
            "learner": self._subject.name,
            "retains": self._subject.retains,
            "source": self._subject.source,
            "topic": self._subject.address or self._settings.stream.topic,
            "positions": {str(p): offset for p, offset in sorted(now.positions.items())},
            "lag": {str(p): records for p, records in sorted(now.lags.items())},
            "broker": {"up": now.broker.up, "detail": now.broker.detail},
            "alive": self._is_alive(now),
            "ready": now.broker.up,
            "segment": segments[-1] if segments else None,
            "visit": len(segments),
            "samples": now.counts.model_dump(),
            "dead_letters": dict(now.dead_letters),
            "late_labels": {"joined": now.labels_joined, "dropped": dict(now.labels_dropped)},
            "privacy": None if now.privacy is None else now.privacy.model_dump(),
            "boundaries": dict(now.boundaries),
            "regime": now.regime,
            "judged": asdict(now.boundaries_scored) if now.boundaries_scored else None,
            "samples_per_second": now.throughput.now(self._clock() - now.worked_at),
            "seconds": now.seconds,
            "evaluation_seconds": now.evaluation_seconds,
            "start": asdict(now.start) if now.start else None,
            "accuracy": latest.accuracy if latest else {},
            "by_class": {n: list(r.by_class) for n, r in latest.readings.items()} if latest else {},
            "class_names": list(now.class_names),
            "ece": {name: reading.ece for name, reading in latest.readings.items()} if latest else {},
            "scores": latest.scores.model_dump() if latest else {},
            "forgetting_by_probe": dict(latest.forgetting_by_probe) if latest else {},
            "R": [list(row) for row in latest.R] if latest else [],
            **self._judged(now),
        }

    def result(self) -> RunResult:
        """Return the run so far, as the document from which reports are drawn."""
        now, settings = self._snapshot, self._settings
        latest, history = now.scores, now.history
        scores = (latest.scores if latest else Scores()).model_dump()
        return RunResult(
            learner=self._subject.name,
            retains=self._subject.retains,
            summary=self._subject.summary,
            source=self._subject.source,
            seed=settings.learner.seed,
            scenario=None,
            broker=self._subject.address or settings.stream.bootstrap_servers,
            segments=list(history.segments),
            probes=list(history.probes),
            probe_hashes=self._probe_hashes,
            R=[list(row) for row in latest.R] if latest else [],
            **scores | dict(now.stream_scores),
            forgetting_by_probe=dict(latest.forgetting_by_probe) if latest else {},
            samples=now.counts,
            dead_letters=dict(now.dead_letters),
            privacy=now.privacy,
            samples_per_second=now.counts.learned / max(now.seconds - now.evaluation_seconds, 1e-9),
            seconds=now.seconds,
            evaluation_seconds=now.evaluation_seconds,
            peak_rss_bytes=peak_rss_bytes() + self.readers_peak_rss_bytes,
            evaluate_every=settings.evaluation.every,
            probe_subset=settings.evaluation.subset,
            window=settings.evaluation.window,
            evaluations=EvaluationPoint.of(history),
            classes=ClassPoint.of(history),
            class_names=list(now.class_names),
            switches=SegmentSwitch.of(history),
            boundaries=Boundaries.of(history),
            throughput=now.throughput.points(),
            prequential=PrequentialPoint.of(history),
            unknown=self._unknown(now),
            **self._judged(now),
        )

    def standing(self) -> ModelStanding:
        """Return how the watched model stands."""
        now = self._snapshot
        measured = self._clock() - now.scored_at if now.scores else None
        return ModelStanding.of(self._subject.name, self.result(), measured, now.asked)

    def _unknown(self, now: RunSnapshot) -> str | None:
        return now.broker.detail if self.watched and not now.broker.up else None

    def _is_alive(self, snapshot: RunSnapshot) -> bool:
        return self._clock() - snapshot.turned_at < self._settings.serve.stalled_seconds

    def _judged(self, now: RunSnapshot) -> dict[str, Any]:
        """Return the time within floors, the accuracy of chance, and the noise of each accuracy."""
        readings = now.scores.readings if now.scores else {}
        floors = self._floors(now)
        return {
            "within_floor": floors.share_within,
            "forgetting_budget_left": floors.budget_left,
            "fading_accuracy": now.fading_accuracy,
            "estimated_accuracy": now.estimated_accuracy,
            "chance_accuracy": chance_accuracy(reading.by_class for reading in readings.values()),
            "noise": {
                probe: sampling_noise(readings[probe].accuracy, images)
                for probe, images in now.images.items()
                if probe in readings
            },
        }
