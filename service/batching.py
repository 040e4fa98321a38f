"""Records to batches: fixed size, fixed rotation over the partitions, whatever the network did.

Record i of the merged stream comes from partition ``i mod n`` of the n partitions read. So the
same records make the same batches in every run, and after every restart.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from service.errors import MalformedRecord, PositionLost
from service.slots import BatchSettings, Slots
from service.stream.deadletter import DeadLetters
from service.stream.source import Position, Record, Source
from service.wire import Layout, decode

__all__ = ["Batcher", "Filled", "Start", "count_segment"]

AHEAD: Final = 512
"""Records of one partition that may wait for those of another before it is left alone."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a batch begins, and how many records are ``left`` from there on; None for ever more."""

    position: Position
    left: int | None


@dataclass(frozen=True, slots=True)
class Filled:
    """A slot that holds a batch, and everything that was taken from the topic to fill it.

    ``segments`` are runs of equal ``segment`` headers, in stream order: ground truth that only
    the evaluation sees. Times are seconds: ``arrived``, on the monotonic clock, is when the oldest of its
    samples was taken from the broker's client; ``produced``, since 1970, is of the first one.
    """

    slot: int
    samples: int
    first: Mapping[int, int]
    """The offset, by partition, at which this batch begins."""
    position: Position
    """Where learning goes on after this batch."""
    received: int
    dead: Mapping[str, int]
    lost: int
    segments: Sequence[tuple[str | None, int]]
    arrived: float
    produced: float
    ends: Mapping[int, int]
    left: int | None
    """Records still wanted after this batch; None for ever more."""

    @property
    def last(self) -> bool:
        """The run's ``stop_after`` is reached."""
        return self.left is not None and self.left <= 0


@dataclass(frozen=True, slots=True)
class _Polled:
    """A record that waits for its turn, and when it came."""

    record: Record
    at: float


class Batcher:
    """Fills slots from a source, from ``position`` on.

    Malformed records go to ``dead_letters``, and a batch is handed over only when every report
    on a record before its end has been acknowledged: no position can pass an unreported one.
    """

    def __init__(
        self,
        source: Source,
        dead_letters: DeadLetters,
        slots: Slots,
        layout: Layout,
        settings: BatchSettings,
        position: Position | None = None,
        stop_after: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source, self._dead_letters, self._slots = source, dead_letters, slots
        self._layout, self._size, self._linger = layout, settings.size, settings.linger
        self._clock = clock
        self._partitions = list(source.partitions)
        given = position or Position({})
        self._next = dict(source.seek(given.offsets))
        self._turn = given.turn % len(self._partitions)  # this service may have had more of them
        self._left = stop_after
        self._waiting: dict[int, deque[_Polled]] = {p: deque() for p in self._partitions}
        self._begin()

    def _begin(self) -> None:
        self._first = dict(self._next)
        self._samples = self._received = self._lost = 0
        self._dead: Counter[str] = Counter()
        self._segments: list[tuple[str | None, int]] = []
        self._arrived = self._produced = 0.0
        self._taken = self._clock()
        self._start = Start(Position(dict(self._next), self._turn, self._source.topic_id), self._left)

    @property
    def waited(self) -> float:
        """For how many seconds the oldest record has been here that is in no complete batch."""
        arrived = [waiting[0].at for waiting in self._waiting.values() if waiting]
        arrived += [self._arrived] if self._samples else []
        return self._clock() - min(arrived) if arrived else 0.0

    @property
    def stalled(self) -> str:
        """What the rotation waits for, in words; empty unless records of other partitions wait, too."""
        partition = self._partitions[self._turn]
        if self._waiting[partition] or not any(self._waiting.values()):
            return ""
        return f"partition {partition} has no record, and it is its turn; others have"

    @property
    def start(self) -> Start:
        """Where the batch that is being filled begins."""
        return self._start

    def fills(self, ends: Mapping[int, int]) -> bool:
        """Tell whether the records before ``ends`` are enough for a batch from `start` on."""
        there = [ends[p] - self._start.position.offsets[p] for p in self._partitions]
        wanted = self._size if self._start.left is None else min(self._size, self._start.left)
        if self._linger:
            return sum(there) >= wanted
        count, turn = len(there), self._start.position.turn
        shares = [-(((index - turn) % count - wanted) // count) for index in range(count)]
        return all(records >= share for records, share in zip(there, shares, strict=True))

    @property
    def ended(self) -> bool:
        """No more records are wanted."""
        return self._left is not None and self._left <= 0

    def fill(self, slot: int, timeout: float) -> Filled | None:
        """Go on filling ``slot``; return it when it is complete, None when records are awaited.

        Called again with the same slot until it returns it. Raises what the source and the dead
        letters raise; nothing taken so far is lost by that, the call can be repeated.
        """
        try:
            if not self._take(slot):
                full = [p for p, records in self._waiting.items() if len(records) >= AHEAD]
                records = self._source.poll(timeout, AHEAD, full)
                now = self._clock()
                for record in records:
                    self._waiting[record.partition].append(_Polled(record, now))
                if not (self._take(slot) or self._lingered()):
                    return None
            return self._hand_over(slot)
        finally:
            self._slots.queued = sum(map(len, self._waiting.values()))

    def _take(self, slot: int) -> bool:
        """Move waiting records into the slot, in rotation; tell whether the batch is complete."""
        while self._samples < self._size and not self.ended:
            partition = self._partitions[self._turn]
            queue = self._waiting[partition]
            if not queue:
                if not self._skips():
                    return False
                continue
            self._read(slot, queue[0])
            queue.popleft()
            self._turn = (self._turn + 1) % len(self._partitions)
        return self._received > 0

    def _skips(self) -> bool:
        """Give the turn to a partition that has a record, where lingering was allowed and is over."""
        ready = [turn for turn, p in enumerate(self._partitions) if self._waiting[p]]
        if not ready or not self._linger_over():
            return False
        self._turn = ready[0]
        return True

    def _read(self, slot: int, polled: _Polled) -> None:
        record = polled.record
        gap = record.offset - self._next[record.partition]
        if gap < 0:
            raise PositionLost(
                f"partition {record.partition}: offset {record.offset} was served a second time"
            )
        try:
            sample = decode(record.value, record.headers, self._layout)
        except MalformedRecord as error:
            self._dead_letters.send(record, error)
            self._dead[error.reason] += 1
        else:
            self._slots.put(slot, self._samples, sample)
            if self._samples == 0:
                self._arrived, self._produced = polled.at, record.timestamp / 1000
            self._arrived = min(self._arrived, polled.at)
            self._samples += 1
            count_segment(self._segments, sample.segment)
        self._taken = self._clock()
        self._lost += gap
        self._received += 1
        self._next[record.partition] = record.offset + 1
        if self._left is not None:
            self._left -= 1 + gap

    def _lingered(self) -> bool:
        return self._received > 0 and self._linger_over()

    def _linger_over(self) -> bool:
        return 0 < self._linger <= self._clock() - self._taken

    def _hand_over(self, slot: int) -> Filled:
        self._dead_letters.flush()
        ends = self._source.known_ends()
        filled = Filled(
            slot=slot,
            samples=self._samples,
            first=self._first,
            position=Position(dict(self._next), self._turn, self._source.topic_id, ends),
            received=self._received,
            dead=dict(self._dead),
            lost=self._lost,
            segments=tuple(self._segments),
            arrived=self._arrived,
            produced=self._produced,
            ends=ends,
            left=self._left,
        )
        self._begin()
        return filled


def count_segment(runs: list[tuple[str | None, int]], segment: str | None) -> None:
    """Add a sample of ``segment`` to the runs of equal ones."""
    if runs and runs[-1][0] == segment:
        runs[-1] = (segment, runs[-1][1] + 1)
    else:
        runs.append((segment, 1))
