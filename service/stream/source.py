"""Where records come from: the contract between a stream and the service."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from service.wire import Headers

__all__ = ["Position", "Purged", "Record", "Source"]


class Record(Protocol):
    """One record as the broker's client hands it over; kafka-python's ConsumerRecord is one."""

    @property
    def partition(self) -> int:
        """The partition it was read from."""

    @property
    def offset(self) -> int:
        """Its place in the partition."""

    @property
    def timestamp(self) -> int:
        """When it was produced, in milliseconds since 1970."""

    @property
    def value(self) -> bytes | None:
        """The encoded image."""

    @property
    def headers(self) -> Headers:
        """Everything else that is known of the sample."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where learning stands: the authority is the checkpoint that holds it, not the broker.

    ``offsets`` maps each partition to the first offset not yet learned. ``turn`` is the index,
    among the sorted partitions, of the one whose record comes next: with it the rotation goes
    on after a restart exactly where it was. ``topic_id`` is the broker's own identity of the
    topic, where it has one: a topic of the same name that was created anew has another. ``ends`` are
    the partitions' ends when they were last seen: how much is gone if the topic is. Where learning
    stands does not depend on them.
    """

    offsets: Mapping[int, int]
    turn: int = 0
    topic_id: str | None = None
    ends: Mapping[int, int] = field(default_factory=dict, compare=False)

    @property
    def ahead(self) -> int:
        """How many records were known to come after it."""
        return sum(max(0, end - self.offsets.get(p, end)) for p, end in self.ends.items())


@dataclass(frozen=True, slots=True)
class Purged:
    """Where the log of each partition begins now, and whom a further purge waits for, in words."""

    starts: Mapping[int, int]
    waits_for: str = ""


class Source(Protocol):
    """A topic, or the part of it that belongs to this service, read from a position onwards."""

    @property
    def partitions(self) -> Sequence[int]:
        """The partitions that are read, in ascending order."""

    @property
    def topic_id(self) -> str | None:
        """The broker's identity of the topic, None where it has none."""

    def seek(self, offsets: Mapping[int, int]) -> Mapping[int, int]:
        """Read from ``offsets`` on; without any, from where a run is to begin.

        A partition that is not among them was added since, and is read from its beginning.

        Returns the offsets in force. Raises PositionLost when a record at or after an offset
        that was given is gone or the offset is past the end, BrokerUnavailable.
        """

    def poll(self, timeout: float, limit: int, full: Collection[int]) -> list[Record]:
        """Return up to ``limit`` records, in offset order within a partition, or none yet.

        Waits up to ``timeout`` seconds. Partitions in ``full`` are left alone. Raises
        PositionLost, BrokerUnavailable.
        """

    def ends(self) -> Mapping[int, int]:
        """Ask the broker for each partition's end: the offset its next record will get.

        Raises BrokerUnavailable; also serves to find out whether the broker is there.
        """

    def known_ends(self) -> Mapping[int, int]:
        """Return the ends as of the last answer, without asking."""

    def commit(self, offsets: Mapping[int, int], notes: Mapping[int, str]) -> None:
        """Tell the broker what has been learned, with a note on each partition for other services.

        Never read back to learn from it: that is what checkpoints are for. Raises BrokerUnavailable.
        """

    def close(self) -> None:
        """Let go of the broker. May never be called."""
