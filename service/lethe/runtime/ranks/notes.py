"""What the ranks send each other: rank 0's commands, and the notes with which every rank answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Final

from pydantic import TypeAdapter

from lethe.ingest.batcher import AcknowledgedDeadLetters
from lethe.ingest.messages import BrokerState
from lethe.runtime.ranks.interface import LearnedElsewhere
from lethe.stream.source import Position

__all__ = ["NOTE", "OPENING", "PAUSE", "Command", "Note", "Opening", "Pause"]


class Command(IntEnum):
    """What rank 0 has all ranks do next."""

    OPEN = auto()
    """Read from the `Opening` that is broadcast next."""
    WAIT = auto()
    """Wait a moment for a batch, and answer with a note."""
    LEARN = auto()
    """Learn the batch that the last note announced, if it did, and answer with a note."""
    POOL = auto()
    """Move what was learned to rank 0."""
    SHARE = auto()
    """Take over what `learn` predicts from."""
    BOUNDARY = auto()
    """Notify the learner of a boundary."""
    PAUSE = auto()
    """Discard what was read, wait for RESUME, then read from the `Pause` that is broadcast next; answer with
    a note."""
    RESUME = auto()
    """Continue to read."""
    EVALUATE = auto()
    """Do the `lethe.runtime.ranks.evaluation.Task` that is broadcast next, and answer with a `Part`."""
    FINISH = auto()
    """End with status 0."""


@dataclass(frozen=True, slots=True)
class Opening:
    """Where reading begins: the same for all ranks, each of which takes its own partitions from it."""

    position: Position
    """Of all partitions; its ``turn`` is not used."""
    turns: Sequence[int]
    """By rank, the turn in its rotation; empty if there were other ranks before."""
    until: Mapping[int, int] | None
    """By partition, the offset before which the run ends; None for a run without end."""
    keep: Position | None
    """The earliest position that a restart may go back to."""
    service: str
    """What identifies the state folder."""
    dead_letter_key: str | None
    """In hex."""
    detects: bool = False
    """Whether rank 0 looks for boundaries, for which it needs the features of all batches."""
    paused: bool = False
    """Whether nothing is read until RESUME."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Where reading goes on after a pause."""

    position: Position
    turns: Sequence[int]
    """By rank, as in an `Opening`."""


@dataclass(frozen=True, slots=True)
class Note:
    """How a rank stands between two rounds."""

    ready: bool = False
    """Whether it has a batch, which it learns at the next command to."""
    segments: Sequence[tuple[str | None, int]] = ()
    """Those of that batch."""
    skipped: int = 0
    """Offsets without a record that it passes."""
    ended: bool = False
    """Whether it has read its partitions to their ends."""
    idle: bool = False
    """Whether it has had no batch for so long that the others need not wait for it."""
    stop: bool = False
    """Whether it was asked to stop."""
    resident: int = 0
    """Samples whose pixels are in its memory."""
    broker: BrokerState | None = None
    """News of the broker since the last note."""
    dead: AcknowledgedDeadLetters | None = None
    """News of the batch that is being filled."""
    returned: int = 0
    """How often in a row its incomplete batch was discarded, if it was since the last note."""
    learned: LearnedElsewhere | None = None
    """The batch of the last round, if it had one."""
    learning_seconds: float = 0.0
    """How long it predicted and learned that batch, without collective operations."""
    collective_seconds: float = 0.0
    """How long collective operations took since the last round's note."""


NOTE: Final = TypeAdapter(Note)
OPENING: Final = TypeAdapter(Opening)
PAUSE: Final = TypeAdapter(Pause)
