"""Events about checkpoints, and about the start of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["CheckpointFailed", "CheckpointUnreadable", "CheckpointWritten", "LearningStarted", "Resumed"]


@dataclass(frozen=True, slots=True)
class LearningStarted:
    """The first batch since the process started was learned."""

    seconds: float
    """Seconds since the process started."""
    imports_seconds: float
    """Seconds of these until the libraries were imported."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The run resumes from a checkpoint, with its counts up to there."""

    received: int
    learned: int
    dead: Mapping[str, int]
    lost: int
    boundaries: Mapping[str, int] = field(default_factory=dict)
    """Detected boundaries by signal."""
    progressed: float | None = None
    """When the last sample was learned, in seconds since 1970."""
    violated: Mapping[str, float] = field(default_factory=dict)
    """When each rule of the policy was last violated, in seconds since 1970."""
    lost_at: float | None = None
    """When records were last lost, in seconds since 1970."""
    prequential: float | None = None
    """Prequential accuracy; None before the first batch."""
    prequential_fading: float | None = None
    unlabelled: int = 0
    """Samples without a label."""
    labels_joined: int = 0
    """Samples learned with a label that came later."""
    labels_dropped: Mapping[str, int] = field(default_factory=dict)
    """Late labels that were of no sample, by reason."""


@dataclass(frozen=True, slots=True)
class CheckpointWritten:
    """A checkpoint was written to the disk."""

    samples: int
    size_bytes: int
    seconds: float
    """Duration from taking it to having it on the disk; most of that runs in the background."""


@dataclass(frozen=True, slots=True)
class CheckpointFailed:
    """A checkpoint could not be written; the previous one remains, and learning continues."""

    detail: str


@dataclass(frozen=True, slots=True)
class CheckpointUnreadable:
    """A checkpoint could not be read; an older one is used."""

    detail: str
