"""What became of the records: the road from the topic to the learner."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "BatchLearned",
    "BrokerSeen",
    "Lag",
    "PartitionsAdded",
    "RecordsDeadLettered",
    "RecordsLost",
    "RecordsReceived",
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
class PartitionsAdded:
    """The topic has more partitions than when the run began: from here on, they are in the rotation."""

    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BatchLearned:
    """One batch was predicted, learned and discarded."""

    samples: int
    discarded: int
    """How many of them were overwritten, counted where that is done."""
    correct: int
    """How many were predicted right before they were learned."""
    loss: float | None
    step_seconds: float
    """Predicting, learning and looking for a boundary, without waiting for the batch."""
    residency_seconds: float
    """From the arrival of the batch's first sample in the service to its discard."""
    latency_seconds: float
    """From the producer's timestamp of the batch's first sample to its having been learned."""
    prequential: float | None
    """Prequential accuracy with this batch, over the whole stream."""
    prequential_fading: float | None
    """The same, old batches fading."""


@dataclass(frozen=True, slots=True)
class BrokerSeen:
    """The broker answered (``up``) or did not, and then why."""

    up: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far some of the partitions are learned, each by its number."""

    offsets: Mapping[int, int]
    """What comes next."""
    records: Mapping[int, int]
    """How many are in the topic from there on."""


@dataclass(frozen=True, slots=True)
class Turned:
    """The loop went round once, with or without a batch: it is alive."""

    resident: int
    """Samples whose pixels the service holds now, on their way through."""
    kept: int = 0
    """Samples of before that the learner keeps."""
