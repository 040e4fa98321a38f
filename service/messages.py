"""What the two processes of the feed tell each other: the one that reads, and the one that learns."""

from dataclasses import dataclass

from service.batching import Start
from service.slots import BatchSettings
from service.stream.purge import Sharing
from service.stream.settings import StreamSettings
from service.stream.source import Position
from service.wire import Layout

__all__ = ["BrokerState", "Commit", "Pause", "Resume", "Task"]


@dataclass(frozen=True, slots=True)
class Pause:
    """Overwrite every slot, and wait; then read from ``start``, or from where reading began.

    ``epoch`` numbers the pauses, so that messages from before one can be told.
    """

    start: Start | None
    epoch: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on after a pause."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Learning is at ``position`` and can fall back to ``keep``; None: to nowhere before it."""

    position: Position
    keep: Position | None


@dataclass(frozen=True, slots=True)
class BrokerState:
    """The broker was reached, or was not and why.

    Sent when that changes, and every few seconds while no record comes: then with the ``start`` of the
    batch being filled, and the partitions' ends in it. A connection's first batch comes after its start.
    """

    up: bool
    detail: str = ""
    start: Start | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """What the feeder is to read, from ``position`` on, and how.

    What is in no complete batch stays for half of ``residency`` seconds at most; ``paused`` begins
    as after a `Pause`.
    """

    stream: StreamSettings
    batch: BatchSettings
    layout: Layout
    position: Position | None
    residency: float | None
    paused: bool
    sharing: Sharing
