"""Events about records on their way from the topic to the learner."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "BatchLearned",
    "BatchReturned",
    "BrokerStatus",
    "CommitStatus",
    "LabelsJoined",
    "Lag",
    "LoopTurned",
    "PartitionsAdded",
    "PredictionsStatus",
    "PredictionsWritten",
    "RecordsDeadLettered",
    "RecordsLost",
    "RecordsReceived",
    "RecordsUnlabelled",
    "TopicRecreated",
]


@dataclass(frozen=True, slots=True)
class RecordsReceived:
    """Records, valid or malformed, were read from the topic."""

    count: int


@dataclass(frozen=True, slots=True)
class RecordsDeadLettered:
    """Malformed records were written to the dead-letter topic, which acknowledged them."""

    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class RecordsUnlabelled:
    """Samples without a label were predicted, if that is of use, and discarded without being learned."""

    count: int
    residency_seconds: float
    """From the arrival of the first sample of their batch to its discard."""
    estimated: float | None = None
    """Accuracy on the stream as estimated from confidences alone; None if it is not."""


@dataclass(frozen=True, slots=True)
class LabelsJoined:
    """So many samples had labels that came later; ``dropped`` labels, by reason, were of no sample."""

    count: int
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecordsLost:
    """Offsets that the broker never served: a gap in the topic."""

    count: int


@dataclass(frozen=True, slots=True)
class PartitionsAdded:
    """Partitions were added to the topic; they are read from here on."""

    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TopicRecreated:
    """The topic was deleted and created again; learning continues with the new one."""

    gone: int
    """Lower bound on the records of the old topic that were not learned."""


@dataclass(frozen=True, slots=True)
class BatchReturned:
    """An incomplete batch waited too long and was returned to the broker, ``times`` in a row the same one."""

    times: int


@dataclass(frozen=True, slots=True)
class BatchLearned:
    """One batch was predicted, learned and discarded."""

    samples: int
    discarded: int
    """Samples whose pixels were overwritten, counted by the code that does it."""
    correct: int | None
    """Samples predicted correctly before they were learned; None if a policy withholds it."""
    loss: float | None
    step_seconds: float
    """Duration of prediction, learning and boundary detection, without waiting for the batch."""
    residency_seconds: float
    """From the arrival of the first sample of the batch to its discard."""
    latency_seconds: float
    """From the producer's timestamp of the first sample of the batch until it was learned."""
    prequential: float | None
    """Prequential accuracy over the whole stream, this batch included."""
    prequential_fading: float | None
    """Prequential accuracy with a fading factor."""
    estimated: float | None = None
    """The same, estimated from confidences alone; None if it is not."""
    at: float = field(default_factory=time.time, compare=False)
    """When it was learned, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """Whether the broker answers; if not, ``detail`` is the reason."""

    up: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CommitStatus:
    """Whether the broker accepts offset commits; if not, ``failure`` is the reason."""

    failure: str = ""


@dataclass(frozen=True, slots=True)
class PredictionsWritten:
    """Predictions are in their topic, which acknowledged them."""

    count: int


@dataclass(frozen=True, slots=True)
class PredictionsStatus:
    """Whether learning waits because predictions cannot be written, and why; empty while it does not."""

    waits_for: str = ""


@dataclass(frozen=True, slots=True)
class Lag:
    """Offset and lag of some of the partitions, by partition number."""

    offsets: Mapping[int, int]
    """Next offset to learn."""
    records: Mapping[int, int]
    """Records in the topic from that offset on."""


@dataclass(frozen=True, slots=True)
class LoopTurned:
    """The loop completed a turn, with or without a batch: it is alive."""

    resident: int
    """Samples whose pixels are in the service."""
    kept: int = 0
    """Samples of earlier batches that the learner keeps."""
