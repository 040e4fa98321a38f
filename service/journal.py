"""The journal: what a run says about itself, collected from its events.

The live state page and the result file are written from it. It holds numbers only, and a
bounded number of them: the history thins its curves, the journal its throughput.
"""

import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from service.boundaries import Boundaries
from service.evaluation.history import History
from service.events import (
    BatchLearned,
    BoundariesJudged,
    BoundaryDetected,
    BrokerSeen,
    Evaluated,
    Event,
    Lag,
    LearningBegan,
    Measured,
    PolicyViolated,
    PrivacySpent,
    RecordsDeadLettered,
    RecordsLost,
    RecordsReceived,
    RegimeTold,
    Resumed,
    Turned,
    ViolationLasts,
)
from service.learners.base import JSON, Learner
from service.result import (
    SCORES,
    ClassPoint,
    EvaluationPoint,
    PrequentialPoint,
    PrivacyAccount,
    RunResult,
    SampleCounts,
    SegmentSwitch,
    ThroughputPoint,
)
from service.settings import Settings

__all__ = ["Journal", "peak_rss_bytes"]

THROUGHPUT_POINTS: Final = 512
"""Points kept of the throughput's curve; past that, neighbours are merged."""


class Journal:
    """Takes every event of a run, and answers from another thread how the run is doing."""

    def __init__(
        self,
        settings: Settings,
        kind: type[Learner],
        history: History,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._kind, self._history, self._clock = settings, kind, history, clock
        self._lock = threading.Lock()
        self._received = self._learned = self._discarded = self._lost = self._resident = self._kept = 0
        self._dead: Counter[str] = Counter()
        self._boundaries: Counter[str] = Counter()
        self._violated: dict[str, float] = {}
        self._regime: int | None = None
        self._judged: BoundariesJudged | None = None
        self._positions: dict[int, int] = {}
        self._lags: dict[int, int] = {}
        self._started: float | None = None
        self._progressed: float | None = None
        self._lost_at: float | None = None
        self._start: LearningBegan | None = None
        self._before = self._seconds = self._evaluation_seconds = 0.0
        self._throughput = _Throughput()
        self._measured: Measured | None = None
        self._privacy: PrivacyAccount | None = None
        self._turned = self._broker_changed = self._worked = clock()
        self._broker = BrokerSeen(up=False, detail="not reached yet")

    def __call__(self, event: Event) -> None:
        """Take one event."""
        with self._lock:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case Resumed():
                self._received, self._learned, self._lost = event.received, event.learned, event.lost
                self._discarded = event.learned  # nothing is left of the process that learned them
                self._dead = Counter(event.dead)
                self._boundaries = Counter(event.boundaries)
                self._violated, self._lost_at = dict(event.violated), event.lost_at
            case Turned():
                self._turned, self._resident, self._kept = self._clock(), event.resident, event.kept
            case LearningBegan():
                self._start = event
            case BatchLearned():
                now, self._progressed = self._clock(), time.time()
                self._started = now - event.step_seconds if self._started is None else self._started
                self._learned += event.samples
                self._discarded += event.discarded
                self._seconds, self._worked = self._before + now - self._started, now
                self._throughput.add(self._learned, self._seconds - self._evaluation_seconds)
            case RecordsReceived():
                self._received += event.count
            case RecordsDeadLettered():
                self._dead[event.reason] += event.count
            case RecordsLost():
                self._lost, self._lost_at = self._lost + event.count, time.time()
            case BoundaryDetected():
                self._boundaries[event.signal] += 1
            case RegimeTold():
                self._regime = event.regime
            case BoundariesJudged():
                self._judged = event
            case Lag():
                self._positions.update(event.offsets)
                self._lags.update(event.records)
            case Evaluated():
                self._turned = self._worked = self._clock()
                if self._started is not None:
                    self._evaluation_seconds += event.seconds
                    self._seconds = self._before + self._clock() - self._started
            case Measured():
                self._measured = event
            case PrivacySpent():
                self._privacy = PrivacyAccount.model_validate(asdict(event))
            case PolicyViolated() | ViolationLasts():
                self._violated[event.rule] = event.at
            case BrokerSeen():
                self._broker, self._broker_changed = event, self._clock()

    def counts(self) -> Resumed:
        """Return what a checkpoint keeps of the journal: the counts, as the event that restores them."""
        with self._lock:
            return Resumed(
                self._received, self._learned, dict(self._dead), self._lost, dict(self._boundaries)
            )

    def timing(self) -> dict[str, JSON]:
        """Return what else a checkpoint keeps: times, which no two runs have alike."""
        with self._lock:
            marks: list[JSON] = [[samples, seconds] for samples, seconds in self._throughput.marks]
            return {
                "seconds": self._seconds,
                "evaluation_seconds": self._evaluation_seconds,
                "marks": marks,
                "progressed": self._progressed,
                "violated": dict(self._violated),
                "lost_at": self._lost_at,
            }

    def go_on(self, timing: dict[str, Any]) -> None:
        """Take over what `timing` returned before a restart; the time in between does not count."""
        with self._lock:
            self._before = self._seconds = timing["seconds"]
            self._evaluation_seconds = timing["evaluation_seconds"]
            self._progressed = timing["progressed"]
            self._throughput.marks = [(samples, seconds) for samples, seconds in timing["marks"]]

    @property
    def alive(self) -> bool:
        """The loop turned lately."""
        return self._clock() - self._turned < self._settings.serve.stalled_seconds

    @property
    def ready(self) -> bool:
        """Partitions are assigned and the broker answers."""
        return self._broker.up

    def state(self) -> dict[str, Any]:
        """Return how the run is doing, as plain JSON."""
        with self._lock:
            measured = self._measured
            return {
                "learner": self._kind.name,
                "retains": self._kind.retains.value,
                "topic": self._settings.stream.topic,
                "positions": {str(p): offset for p, offset in sorted(self._positions.items())},
                "lag": {str(p): records for p, records in sorted(self._lags.items())},
                "broker": {"up": self._broker.up, "detail": self._broker.detail},
                "alive": self.alive,
                "ready": self.ready,
                "segment": self._history.segments[-1] if self._history.segments else None,
                "visit": len(self._history.segments),
                "samples": self._counts().model_dump(),
                "dead_letters": dict(self._dead),
                "privacy": None if self._privacy is None else self._privacy.model_dump(),
                "boundaries": dict(self._boundaries),
                "regime": self._regime,
                "judged": asdict(self._judged) if self._judged else None,
                "samples_per_second": self._throughput.lately(self._clock() - self._worked),
                "seconds": self._seconds,
                "evaluation_seconds": self._evaluation_seconds,
                "start": asdict(self._start) if self._start else None,
                "accuracy": measured.accuracy if measured else {},
                "by_class": {n: list(r.by_class) for n, r in measured.readings.items()} if measured else {},
                "ece": {name: reading.ece for name, reading in measured.readings.items()} if measured else {},
                "scores": {n: getattr(measured.scores, n) for n in SCORES} if measured else {},
                "forgetting_by_probe": dict(measured.scores.forgetting_by_probe) if measured else {},
                "R": [list(row) for row in measured.R] if measured else [],
            }

    def result(self) -> RunResult:
        """Return the run so far as the document that reports are drawn from."""
        with self._lock:
            measured, history, settings = self._measured, self._history, self._settings
            learning = max(self._seconds - self._evaluation_seconds, 1e-9)
            scores = {name: getattr(measured.scores, name) if measured else None for name in SCORES}
            return RunResult(
                learner=self._kind.name,
                retains=self._kind.retains.value,
                summary=self._kind.summary,
                seed=settings.learner.seed,
                scenario=None,
                broker=settings.stream.bootstrap_servers,
                segments=history.segments,
                probes=list(history.probes),
                R=[list(row) for row in measured.R] if measured else [],
                **scores | {"prequential_accuracy": history.prequential.cumulative},
                forgetting_by_probe=dict(measured.scores.forgetting_by_probe) if measured else {},
                samples=self._counts(),
                dead_letters=dict(self._dead),
                privacy=self._privacy,
                samples_per_second=self._learned / learning,
                seconds=self._seconds,
                evaluation_seconds=self._evaluation_seconds,
                peak_rss_bytes=peak_rss_bytes(),
                evaluate_every=settings.evaluation.every,
                probe_subset=settings.evaluation.subset,
                window=settings.evaluation.window,
                evaluations=EvaluationPoint.of(history),
                classes=ClassPoint.of(history),
                switches=SegmentSwitch.of(history),
                boundaries=Boundaries.of(history),
                throughput=self._throughput.points(),
                prequential=PrequentialPoint.of(history),
            )

    def _counts(self) -> SampleCounts:
        return SampleCounts(
            received=self._received,
            learned=self._learned,
            discarded=self._discarded,
            dead_lettered=self._dead.total(),
            lost=self._lost,
            resident=self._resident,
            kept=self._kept,
        )


class _Throughput:
    """When how many samples had been learned, thinned so that it never grows beyond a bound."""

    def __init__(self) -> None:
        self.marks: list[tuple[int, float]] = []  # samples learned, seconds spent learning
        self._every = 1.0

    def add(self, samples: int, seconds: float) -> None:
        if self.marks and seconds - self.marks[-1][1] < self._every:
            return
        self.marks.append((samples, seconds))
        if len(self.marks) > THROUGHPUT_POINTS:
            del self.marks[1::2]
            self._every *= 2

    def lately(self, rested: float) -> float:
        """Samples a second over the last few marks, and over the ``rested`` seconds since the newest."""
        if len(self.marks) < 2:
            return 0.0
        (before, start), (after, end) = self.marks[-min(5, len(self.marks))], self.marks[-1]
        return (after - before) / (end - start + rested)

    def points(self) -> list[ThroughputPoint]:
        pairs = zip(self.marks, self.marks[1:], strict=False)
        return [
            ThroughputPoint(samples=(a[0] + b[0]) // 2, samples_per_second=(b[0] - a[0]) / (b[1] - a[1]))
            for a, b in pairs
        ]


def peak_rss_bytes() -> int:
    """Return the largest resident sets of this process and of its feeder, once that has ended, in bytes."""
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in kilobytes
