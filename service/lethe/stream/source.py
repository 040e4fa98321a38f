"""The interface between the service and the stream that it reads."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lethe.wire import Headers

__all__ = ["Position", "Purged", "Record", "Source"]


class Record(Protocol):
    """A record of the stream; kafka-python's ConsumerRecord is one."""

    @property
    def partition(self) -> int:
        """The partition that it was read from."""

    @property
    def offset(self) -> int:
        """Its offset in the partition."""

    @property
    def timestamp(self) -> int:
        """When it was produced, in milliseconds since the epoch."""

    @property
    def key(self) -> bytes | None:
        """Its key, which means nothing to the service."""

    @property
    def value(self) -> bytes | None:
        """The encoded image."""

    @property
    def headers(self) -> Headers:
        """Label, shape and content type, see `lethe.wire`."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far learning is. The authority is the checkpoint that holds it, not the broker.

    ``offsets`` maps each partition to the first offset not learned. ``turn`` is the index, among the
    sorted partitions, of the one whose record is next: after a restart the rotation continues exactly
    there. ``topic_id`` is the broker's id of the topic, if it has one: a topic created anew under the
    same name has another. ``ends`` are the last known ends of the partitions, which give how much is lost
    with a deleted topic; equality ignores them. ``reported`` are offsets beyond the position before
    which every malformed record has its dead letter. ``classes`` are the names of the classes, by number,
    where labels are names: those known at the start, and of the records before it. ``labels`` are the offsets
    of the topic of late labels from which those of later records have to be read; of these,
    ``labels_settled`` need not, see `lethe.ingest.settled_offsets.SettledOffsets.text`.
    """

    offsets: Mapping[int, int]
    turn: int = 0
    topic_id: str | None = None
    ends: Mapping[int, int] = field(default_factory=dict, compare=False)
    reported: Mapping[int, int] = field(default_factory=dict, compare=False)
    classes: tuple[str, ...] = field(default=(), compare=False)
    labels: Mapping[int, int] = field(default_factory=dict, compare=False)
    labels_settled: Mapping[int, str] = field(default_factory=dict, compare=False)

    @property
    def ahead(self) -> int:
        """The number of records known to follow it."""
        return sum(max(0, end - self.offsets.get(p, end)) for p, end in self.ends.items())


@dataclass(frozen=True, slots=True)
class Purged:
    """The outcome of a purge: where each partition's log begins, and what a further purge waits for."""

    starts: Mapping[int, int]
    waits_for: str = ""


class Source(Protocol):
    """The partitions of a topic that belong to this service, read from given offsets on."""

    @property
    def partitions(self) -> Sequence[int]:
        """The partitions that are read, in ascending order."""

    @property
    def topic_id(self) -> str | None:
        """The broker's id of the topic, None if it has none."""

    def seek(self, offsets: Mapping[int, int]) -> Mapping[int, int]:
        """Read from ``offsets`` on; without any, from the configured start.

        A partition that is not among them was added later and is read from its beginning.

        Returns the offsets in force. Raises PositionLost when records at or after a given offset are
        gone or the offset is past the end, BrokerUnavailable.
        """

    def poll(self, timeout: float, limit: int, full: Collection[int]) -> list[Record]:
        """Return up to ``limit`` records, in offset order within a partition.

        Waits up to ``timeout`` seconds, and returns an empty list if none came. Partitions in ``full`` are
        paused. Raises PositionLost, BrokerUnavailable.
        """

    def skipped(self, partition: int, first: int, until: int) -> int:
        """Return how many of the offsets ``first`` to ``until`` − 1, which `poll` has passed, hold no record.

        Markers of transactions and records of aborted ones are such offsets. Ask in ascending order.
        """

    def reached(self) -> Mapping[int, int]:
        """Return the first offset of each partition that has not been read.

        Records before it were returned by `poll`.
        """

    def ends(self) -> Mapping[int, int]:
        """Request each partition's end: the offset before which every record can be read.

        Raises BrokerUnavailable, which also makes it a check of the connection.
        """

    def known_ends(self) -> Mapping[int, int]:
        """Return the ends as of the last fetch, without a request."""

    def grown(self) -> bool:
        """Return whether the topic has partitions for this service that it had not when it was opened.

        Raises BrokerUnavailable.
        """

    def close(self) -> None:
        """Close the connections. May never be called."""
