"""One event of every kind, and what Prometheus sees of them."""

from prometheus_client import CollectorRegistry

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
    LedgerStands,
    Measured,
    PartitionsAdded,
    PolicyViolated,
    PrivacySpent,
    PurgeHeldUp,
    PurgeLag,
    Reading,
    RecordsDeadLettered,
    RecordsLost,
    RecordsReceived,
    RegimeTold,
    Resumed,
    SamplesKept,
    Scores,
    SegmentStarted,
    Turned,
    ViolationLasts,
)
from service.metrics import Metrics

__all__ = ["BATCH", "EVENTS", "JUDGED", "MEASURED", "READINGS", "SCORES", "Scrape"]

BATCH = BatchLearned(
    samples=64,
    discarded=64,
    correct=60,
    loss=0.25,
    step_seconds=0.01,
    residency_seconds=0.2,
    latency_seconds=1.5,
    prequential=0.75,
    prequential_fading=0.5,
)
SCORES = Scores(
    acc=0.5,
    bwt=-0.25,
    fwt=0.125,
    forgetting=0.375,
    forgetting_by_probe={"a": 0.375},
    min_acc=0.25,
    wc_acc=0.625,
    windowed_forgetting=0.3125,
    windowed_plasticity=0.4375,
    anytime_accuracy=0.75,
    ece=0.0625,
    prequential_accuracy=0.875,
    prequential_fading=0.5,
)
READINGS = {
    "a": Reading(0.5, 0.75, (0.25, 0.75, None), 0.125),
    "b": Reading(0.25, 0.125, (0.0, 1.0, 0.5), 0.375),
}
MEASURED = Measured(
    samples=128,
    readings=READINGS,
    scores=SCORES,
    R=((0.0, 0.125), (0.5, 0.25)),
    segments=("a",),
    probes=("a", "b"),
)
JUDGED = BoundariesJudged(
    found=2,
    missed=1,
    awaited=True,
    false_alarms=3,
    delay=64,
    returns=5,
    recognised=4,
    mistaken=1,
)
EVENTS: list[Event] = [
    RecordsReceived(70),
    RecordsDeadLettered("oversized", 4),
    RecordsLost(2),
    PartitionsAdded((2, 3)),
    BATCH,
    SegmentStarted("a", 1, 0),
    BoundaryDetected("features", 1064),
    RegimeTold(regime=2, returned=False, samples=1320),
    JUDGED,
    Evaluated(128, READINGS, True, 1, "a", False, 0.75),
    MEASURED,
    BrokerSeen(up=True),
    Lag(offsets={3: 11}, records={3: 7}),
    Turned(resident=5, kept=500),
    Resumed(received=70, learned=64, dead={"oversized": 4}, lost=2),
    LearningBegan(seconds=4.25, imports_seconds=3.0),
    CheckpointWritten(samples=64, size_bytes=1000, seconds=0.25),
    CheckpointFailed("no space left"),
    CheckpointUnreadable("it is torn"),
    PolicyViolated("residency", "samples were in the service for 9 s", 1_700_000_000.0),
    ViolationLasts("purge", 1_700_000_000.0),
    PrivacySpent(epsilon=2.5, delta=1e-5, budget=8.0, spent=True),
    PurgeLag(seconds=12.5, records=640, within=60.0),
    PurgeHeldUp("group ridge"),
    LedgerStands(9, "00d15ea5e5ca" + "7" * 52),
    SamplesKept(seconds=90.0, allowed=3600.0),
]


class Scrape:
    """What Prometheus would see."""

    def __init__(self, *events: Event) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry, sample_bytes=784, build={"version": "1.2.3"})
        for event in events:
            self.metrics(event)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"lethe_{name}", labels)
