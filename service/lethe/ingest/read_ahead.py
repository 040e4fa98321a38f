"""Records that were read before their turn, by partition, and the decoding of their images meanwhile."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from lethe.errors import MalformedRecord
from lethe.ingest.decoding.decoders import Decoders, Given
from lethe.stream.source import Record
from lethe.wire import Layout, Pixels, format_of

__all__ = ["READ_AHEAD_BYTES", "READ_AHEAD_RECORDS", "ReadAhead", "Waiting"]

READ_AHEAD_RECORDS: Final = 512
"""Per-partition limit; beyond it the partition is paused."""
READ_AHEAD_BYTES: Final = 8 << 20
"""The same in bytes, whichever is reached first."""


@dataclass(slots=True)
class Waiting:
    """A record that waits for its turn, and when it was received, on the monotonic clock."""

    record: Record
    at: float
    given: Given | None = None
    """Its value at a decoder, if one was given it."""
    label: bytes | None = None
    """The label that came later, once it is taken."""


class ReadAhead:
    """The records of each partition that wait for their turn, oldest first.

    A partition is `full` with ``records``, or ``size`` bytes of values.

    ``decoders`` are given the values of those whose turn comes next, as far as they have places; never of a
    record at or past ``until`` of its partition, whose turn does not come.
    """

    def __init__(
        self,
        partitions: Sequence[int],
        layout: Layout,
        decoders: Decoders | None,
        until: Mapping[int, int] | None,
        records: int = READ_AHEAD_RECORDS,
        size: int = READ_AHEAD_BYTES,
    ) -> None:
        self._records, self._size = records, size
        self._layout, self._decoders, self._until = layout, decoders, until
        self._waiting: dict[int, deque[Waiting]] = {p: deque() for p in partitions}
        self._bytes = dict.fromkeys(partitions, 0)
        """Of the values in `_waiting`, by partition."""
        self._offered = dict.fromkeys(partitions, 0)
        """How many of the first in `_waiting` were considered for `decoders`, by partition."""

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __bool__(self) -> bool:
        return any(self._waiting.values())

    @property
    def oldest(self) -> float | None:
        """When the first of them was received; None without any."""
        return min((waiting[0].at for waiting in self._waiting.values() if waiting), default=None)

    @property
    def full(self) -> list[int]:
        """The partitions of which no more is to be read now."""
        waiting = self._waiting.items()
        return [p for p, rest in waiting if len(rest) >= self._records or self._bytes[p] >= self._size]

    def add(self, records: Iterable[Record], at: float) -> None:
        """Add records, received ``at``."""
        for record in records:
            self._waiting[record.partition].append(Waiting(record, at))
            self._bytes[record.partition] += len(record.value or b"")
        self._decode_ahead()

    def first(self, partition: int) -> Waiting | None:
        """Return the first record of a partition, if there is one; it stays."""
        records = self._waiting[partition]
        return records[0] if records else None

    def pixels(self, waiting: Waiting) -> Callable[[], Pixels] | None:
        """Return what waits for the image of a record; None if it is to be decoded here.

        The image is a view that is valid until the record is removed.
        """
        if self._decoders is None or waiting.given is None:
            return None
        return partial(self._decoders.pixels, waiting.given)

    def remove_first(self, partition: int) -> None:
        """Remove the first record of a partition, and overwrite its image with zeros if it was decoded."""
        waiting = self._waiting[partition].popleft()
        self._bytes[partition] -= len(waiting.record.value or b"")
        if self._decoders is None:
            return
        self._offered[partition] = max(0, self._offered[partition] - 1)
        if waiting.given is not None:
            self._decoders.release(waiting.given)
        if self._decoders.many_free:
            self._decode_ahead()

    def check_decoders(self) -> None:
        """Raise ReaderDied if a decoder has ended."""
        if self._decoders is not None:
            self._decoders.check()

    def _decode_ahead(self) -> None:
        """Give values to the decoders while they have places."""
        if self._decoders is None:
            return
        while self._decoders.free:
            rest = [p for p, records in self._waiting.items() if self._offered[p] < len(records)]
            if not rest:
                break
            partition = min(rest, key=self._offered.__getitem__)
            self._offer(self._waiting[partition][self._offered[partition]], self._decoders)
            self._offered[partition] += 1
        self._decoders.send()

    def _offer(self, waiting: Waiting, decoders: Decoders) -> None:
        """Give a record's value to the decoders if it is an image that needs decoding."""
        record = waiting.record
        value = record.value
        if self._until is not None and record.offset >= self._until.get(record.partition, 0):
            return
        if value is None or len(value) > self._layout.max_bytes:
            return
        try:
            kind = format_of(dict(record.headers), self._layout)
        except MalformedRecord:  # it is reported in its turn
            return
        if kind != "raw":
            waiting.given = decoders.give(kind, value)
