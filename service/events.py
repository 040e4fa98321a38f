"""What happened, as frozen dataclasses of plain numbers: the only thing that leaves the loop.

Metrics, the live state and the report subscribe to these; none of them can reach a pixel.
Times are seconds, accuracies are ratios from 0 to 1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = [
    "BatchLearned",
    "BoundaryDetected",
    "BrokerSeen",
    "CheckpointFailed",
    "CheckpointUnreadable",
    "CheckpointWritten",
    "Emit",
    "Evaluated",
    "Event",
    "Lag",
    "LearningBegan",
    "Measured",
    "PolicyViolated",
    "PrivacySpent",
    "PurgeHeldUp",
    "PurgeLag",
    "RecordsDeadLettered",
    "RecordsLost",
    "RecordsReceived",
    "Resumed",
    "SamplesKept",
    "Scores",
    "SegmentStarted",
    "Turned",
]


@dataclass(frozen=True, slots=True)
class RecordsReceived:
    """Records, good and bad, were taken from the topic."""

    count: int


@dataclass(frozen=True, slots=True)
class RecordsDeadLettered:
    """Malformed records were acknowledged by the dead-letter topic."""

    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class RecordsLost:
    """Offsets between two records that were never served: a gap in the topic."""

    count: int


@dataclass(frozen=True, slots=True)
class BatchLearned:
    """One batch was predicted, learned and discarded."""

    samples: int
    correct: int
    """How many were predicted right before they were learned."""
    loss: float | None
    step_seconds: float
    """Predicting and learning, without waiting for the batch."""
    residency_seconds: float
    """From the arrival of the batch's first sample in the service to its discard."""
    latency_seconds: float
    """From the producer's timestamp of the batch's first sample to its having been learned."""
    prequential: float | None
    """Prequential accuracy with this batch, over the whole stream."""
    prequential_fading: float | None
    """The same, old batches fading."""


@dataclass(frozen=True, slots=True)
class LearningBegan:
    """The first batch since the process began was learned: it is back, or there."""

    seconds: float
    """Since the process began."""
    imports_seconds: float
    """Of these, until the libraries were imported."""


@dataclass(frozen=True, slots=True)
class SegmentStarted:
    """The first sample of a segment is about to be learned; ground truth, not for learners."""

    name: str
    visit: int
    """1 for the first segment of the stream."""
    samples: int
    """Samples learned before it."""
    resumed: bool = False
    """It is not new: the service was started again while it was being learned."""


@dataclass(frozen=True, slots=True)
class BoundaryDetected:
    """The stream's subject seems to have changed: found in the stream itself, not in its headers."""

    signal: str
    """What told of it: "features", "error" or "loss"."""
    samples: int
    """Samples learned before it was found."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The learner was measured on every probe.

    ``accuracy`` maps each probe, in the probes' own order, to its accuracy. ``full`` tells the
    whole probes from the fixed subset. ``visit`` is the number of the segment being learned (0
    before the first) and ``ends_segment`` whether that segment has just ended: such an
    evaluation is row ``visit`` of R.
    """

    samples: int
    accuracy: Mapping[str, float]
    full: bool
    visit: int
    segment: str | None
    ends_segment: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Scores:
    """Continual-learning metrics so far; definitions in `service.evaluation.forgetting`.

    A value is None while it is not defined yet (BWT before the second segment has ended).
    """

    acc: float | None
    bwt: float | None
    fwt: float | None
    forgetting: float | None
    forgetting_by_probe: Mapping[str, float]
    min_acc: float | None
    wc_acc: float | None
    anytime_accuracy: float | None
    prequential_accuracy: float | None
    prequential_fading: float | None


@dataclass(frozen=True, slots=True)
class Measured:
    """The scores and the accuracy matrix after an evaluation.

    ``R`` has a row for the untrained learner and one for each ended segment, a column a probe.
    """

    samples: int
    accuracy: Mapping[str, float]
    """Of each probe, in this evaluation."""
    scores: Scores
    R: Sequence[Sequence[float]]
    segments: Sequence[str]
    """The segments visited so far, in order; row i of ``R`` follows ``segments[i - 1]``."""
    probes: Sequence[str]


@dataclass(frozen=True, slots=True)
class BrokerSeen:
    """The broker answered (``up``) or did not, and then why."""

    up: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a partition is learned: ``offset`` comes next, ``records`` are in the topic from there on."""

    partition: int
    offset: int
    records: int


@dataclass(frozen=True, slots=True)
class Turned:
    """The loop went round once, with or without a batch: it is alive."""

    resident: int
    """Samples whose pixels the service holds now."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The run goes on from a checkpoint; what it had counted until then."""

    received: int
    learned: int
    dead: Mapping[str, int]
    lost: int
    boundaries: Mapping[str, int] = field(default_factory=dict)
    """Detected, by signal."""
    progressed: float | None = None
    """When the last of them was learned, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class CheckpointWritten:
    """A checkpoint is on the disk."""

    samples: int
    size_bytes: int
    seconds: float
    """From taking it to having it on the disk; most of that beside learning."""


@dataclass(frozen=True, slots=True)
class CheckpointFailed:
    """A checkpoint could not be written; the one before still stands, and learning goes on."""

    detail: str


@dataclass(frozen=True, slots=True)
class CheckpointUnreadable:
    """A checkpoint could not be read, so that an older one was taken."""

    detail: str


@dataclass(frozen=True, slots=True)
class PolicyViolated:
    """The service did what its policy forbids, or did not do in time what it asks for."""

    rule: str
    detail: str


@dataclass(frozen=True, slots=True)
class PrivacySpent:
    """What a differentially private learner has spent: ``epsilon`` at ``delta``, of a ``budget`` of ε.

    ``spent``: another batch would go beyond the budget, so learning ends here.
    """

    epsilon: float
    delta: float
    budget: float
    spent: bool


@dataclass(frozen=True, slots=True)
class PurgeLag:
    """How long the oldest ``records`` that were learned and not purged have been so; 0 if there are none."""

    seconds: float
    records: int
    within: float
    """Seconds that the policy allows."""

    @property
    def overdue(self) -> bool:
        """The policy asked for them to be gone by now."""
        return self.seconds > self.within


@dataclass(frozen=True, slots=True)
class PurgeHeldUp:
    """A purge waits for somebody; an empty ``waits_for``: not any more."""

    waits_for: str


@dataclass(frozen=True, slots=True)
class SamplesKept:
    """The learner keeps samples, and may still keep the first, which it saw ``seconds`` ago."""

    seconds: float
    allowed: float
    """Seconds that the policy allows."""


Event = (
    RecordsReceived
    | RecordsDeadLettered
    | RecordsLost
    | BatchLearned
    | LearningBegan
    | SegmentStarted
    | BoundaryDetected
    | Evaluated
    | Measured
    | BrokerSeen
    | Lag
    | Turned
    | Resumed
    | CheckpointWritten
    | CheckpointFailed
    | CheckpointUnreadable
    | PolicyViolated
    | PrivacySpent
    | PurgeLag
    | PurgeHeldUp
    | SamplesKept
)

Emit = Callable[[Event], None]
