"""Messages between the reader process and the process that learns."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from lethe.ingest.batcher import Start
from lethe.settings import BatchSettings, LabelSettings
from lethe.stream.purge import Sharing
from lethe.stream.settings import StreamSettings
from lethe.stream.source import Position
from lethe.wire import Layout

__all__ = [
    "BrokerState",
    "Commit",
    "CommitState",
    "IncompleteBatchDiscarded",
    "Pause",
    "ReaderTask",
    "Resume",
]


@dataclass(frozen=True, slots=True)
class Pause:
    """Request to overwrite every slot and wait, then read from ``start``, or from where reading began.

    ``epoch`` numbers the pauses, to recognise messages from before one.
    """

    start: Start | None
    epoch: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Request to continue after a pause."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Learning is at ``position`` and can fall back to ``keep``; None: to nothing before the position."""

    position: Position
    keep: Position | None


@dataclass(frozen=True, slots=True)
class BrokerState:
    """Whether the broker is reachable, and if not, why.

    Sent on every change, also of the reason, and every few seconds while no record arrives: then with the
    ``start`` of the batch being filled, which holds the partitions' ends. Precedes the first batch of every
    connection.
    """

    up: bool
    detail: str = ""
    start: Start | None = None


@dataclass(frozen=True, slots=True)
class CommitState:
    """Why the broker rejects commits; empty when it accepts them. Sent on every change."""

    failure: str


@dataclass(frozen=True, slots=True)
class IncompleteBatchDiscarded:
    """A batch was still incomplete at half of the residency; its records are read again later.

    ``times`` counts how often in a row this happened to the same batch; more than once only if the
    broker had all of its records.
    """

    times: int


@dataclass(frozen=True, slots=True)
class ReaderTask:
    """What the reader process reads, from ``position`` on, and how.

    An incomplete batch is in memory for at most half of ``residency`` seconds; ``paused`` starts as
    after a `Pause`. Only names of ``segments`` are kept, if these are given. Dead letters hash values
    with ``dead_letter_key``, by default a random key that is not stored. With ``no_core_dumps`` the
    process disables core dumps and debuggers.
    """

    stream: StreamSettings
    batch: BatchSettings
    layout: Layout
    position: Position | None
    residency: float | None
    paused: bool
    sharing: Sharing
    segments: frozenset[str] | None = None
    dead_letter_key: bytes | None = field(default=None, repr=False)
    no_core_dumps: bool = False
    until: Mapping[int, int] | None = None
    """The offset before which each partition is read; None for no such limit."""
    origin_headers: Collection[str] | None = None
    """Headers that go with a sample's origin; None if nobody wants to know its origin."""
    names: Sequence[str] | None = None
    """The first names of classes where labels are names; None where they are numbers."""
    unlabelled: bool = False
    """Whether records without a label are samples."""
    late: LabelSettings | None = None
    """Where late labels come from; None if there are none."""
