"""What is kept over a restart: checkpoints, and how a run went on from one."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["CheckpointFailed", "CheckpointUnreadable", "CheckpointWritten", "LearningBegan", "Resumed"]


@dataclass(frozen=True, slots=True)
class LearningBegan:
    """The first batch since the process began was learned: it is back, or there."""

    seconds: float
    """Since the process began."""
    imports_seconds: float
    """Of these, until the libraries were imported."""


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
    violated: Mapping[str, float] = field(default_factory=dict)
    """When each rule of the policy was last violated, in seconds since 1970."""
    lost_at: float | None = None
    """When records were last found lost, in seconds since 1970."""


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
