"""Assembles records into batches of fixed size, in a fixed rotation over the partitions.

Record i of the merged stream comes from partition ``i mod n`` of the n partitions read. So the same
records form the same batches in every run, after every restart, and however the network delivers them.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from lethe.errors import MalformedRecord, PositionLost
from lethe.ingest.decoding.decoders import Decoders
from lethe.ingest.decoding.time_limit import within
from lethe.ingest.late_labels import NO_LABELS, NoLateLabels
from lethe.ingest.origins import Origin, origin_of
from lethe.ingest.read_ahead import READ_AHEAD_BYTES, READ_AHEAD_RECORDS, ReadAhead, Waiting
from lethe.ingest.slots import Slots
from lethe.settings import BatchSettings
from lethe.stream.dead_letters import DeadLetters
from lethe.stream.source import Position, Record, Source
from lethe.wire import UNLABELLED, Layout, Sample, decode
from lethe.wire.class_names import ClassNames

__all__ = [
    "AcknowledgedDeadLetters",
    "Batcher",
    "FilledBatch",
    "Start",
    "count_segment",
]

AWAITING_BYTES: Final = 64 << 20
"""Read-ahead limit where records wait for their labels, of all partitions together."""
REPORT_RECORDS: Final = 500
"""Malformed records after which their dead letters are flushed although the batch is incomplete."""
REPORT_SECONDS: Final = 1.0
"""The same in seconds after the first of them, whichever is reached first."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a batch begins, and how many records are ``left`` to read from there; None for no limit."""

    position: Position
    left: int | None


@dataclass(frozen=True, slots=True)
class FilledBatch:
    """A slot that holds a batch, with an account of all offsets that were read to fill it.

    ``segments`` are runs of equal ``segment`` headers, in stream order: ground truth for the evaluation
    alone. Times are seconds: ``arrived``, on the monotonic clock, is when the oldest sample was received;
    ``produced``, since the epoch, is the timestamp of the first sample.
    """

    slot: int
    samples: int
    """Those with a label."""
    first: Mapping[int, int]
    """By partition, the offset at which this batch begins."""
    position: Position
    """Where the next batch begins."""
    received: int
    dead: Mapping[str, int]
    lost: int
    """Offsets of records that are gone."""
    skipped: int
    """Offsets that hold no record: markers of transactions and records of aborted ones."""
    segments: Sequence[tuple[str | None, int]]
    arrived: float
    produced: float
    ends: Mapping[int, int]
    left: int | None
    """Records left to read after this batch; None for no limit."""
    places: Sequence[tuple[int, int]] = ()
    """Partition and offset of each sample; empty if they are in no topic."""
    origins: Sequence[Origin] = ()
    """Where each sample came from, with its key, those without a label last; empty unless they are kept."""
    unlabelled: int = 0
    """Samples without a label, at the end of the slot."""
    joined: int = 0
    """Samples with a label that came later."""
    dropped_labels: Mapping[str, int] = field(default_factory=dict)
    """Late labels that were of no sample, by reason."""
    rank: int = 0
    """The rank that read it; 0 for a service that learns alone."""

    @property
    def passed(self) -> int:
        """Number of offsets that it takes, with a record or without."""
        return self.received + self.lost + self.skipped

    @property
    def last(self) -> bool:
        """Whether the run's ``stop_after`` is reached."""
        return self.left is not None and self.left <= 0


@dataclass(frozen=True, slots=True)
class AcknowledgedDeadLetters:
    """Dead letters of the batch that is being filled, acknowledged before it is complete.

    ``dead`` counts all of them by reason. A restart reads their records again, and sends no second dead
    letter for those before the offsets ``reported``, by partition.
    """

    dead: Mapping[str, int]
    reported: Mapping[int, int]
    rank: int = 0
    """The rank that is filling the batch."""


class Batcher:
    """Fills slots from a source, from ``position`` on.

    Only names of ``segments`` are kept, if these are given. A record whose decoding takes more than
    ``decoding_seconds`` of this thread's time is malformed.

    Malformed records go to ``dead_letters``. A batch is returned only when the dead letter of every
    malformed record before its end is acknowledged: no position is past an unreported record. While all
    records are malformed, they are returned as a batch without samples.

    With ``until``, each partition is read up to an offset, in place of ``stop_after`` records in all; the
    rotation passes over a partition that has reached its own.

    With ``names``, labels are names: these come first, or those of the position, and further ones are
    numbered as they appear, up to the number of classes of the layout. Positions hold the names up to there.

    With ``unlabelled``, records without a label are samples as well. They count towards the size of a batch.

    A record without a label waits for its own of the ``late`` ones, and all records after it with it;
    ``ahead`` of a partition are read meanwhile.

    With ``origin_headers``, batches name the origin of each sample, with those of its headers.

    ``decoders`` decode images before their turn; without them, and where they have no place, each is decoded
    here in its turn. The batches are the same.
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
        segments: Collection[str] | None = None,
        decoding_seconds: float | None = None,
        until: Mapping[int, int] | None = None,
        origin_headers: Collection[str] | None = None,
        names: Sequence[str] | None = None,
        unlabelled: bool = False,
        late: NoLateLabels = NO_LABELS,
        ahead: int = READ_AHEAD_RECORDS,
        decoders: Decoders | None = None,
    ) -> None:
        self._late = late
        self._accepts_unlabelled = unlabelled
        self._origin_headers = origin_headers
        self._source, self._dead_letters, self._slots = source, dead_letters, slots
        self._layout, self._size, self._linger = layout, settings.size, settings.linger
        self._clock = clock
        self._partitions = list(source.partitions)
        ahead_bytes = READ_AHEAD_BYTES
        if late is not NO_LABELS:
            ahead_bytes = max(READ_AHEAD_BYTES, AWAITING_BYTES // len(self._partitions))
        given = position or Position({})
        self._names = None if names is None else ClassNames(given.classes or names, layout.classes)
        self._next = dict(source.seek(given.offsets))
        self._turn = given.turn % len(self._partitions)  # the service may have had more partitions
        self._left, self._until = stop_after, until
        if until is not None:
            self._left = sum(max(0, until.get(p, 0) - offset) for p, offset in self._next.items())
        self._segment_names, self._decoding_seconds = segments, decoding_seconds
        self._waiting = ReadAhead(self._partitions, layout, decoders, until, ahead, ahead_bytes)
        self._idle: set[int] = set()
        """Partitions that were waited for and have had no record since."""
        self._begin()

    def _begin(self) -> None:
        self._first = dict(self._next)
        self._samples = self._unlabelled = self._joined = self._received = self._lost = self._skipped = 0
        self._dead: Counter[str] = Counter()
        self._acknowledged = 0
        """Malformed records whose dead letters are acknowledged."""
        self._unreported_since = 0.0
        self._segments: list[tuple[str | None, int]] = []
        self._places: list[tuple[int, int]] = []
        self._origins: list[Origin] = []
        self._unlabelled_origins: list[Origin] = []
        self._arrived = self._produced = 0.0
        self._taken = self._clock()
        self._start = Start(self._position({}), self._left)

    def _position(self, ends: Mapping[int, int]) -> Position:
        next_ = dict(self._next)
        classes = () if self._names is None else self._names.names
        reported = self._reported_beyond(next_)
        late = self._late
        return Position(
            next_, self._turn, self._source.topic_id, ends, reported, classes, late.position, late.settled
        )

    def _reported_beyond(self, offsets: Mapping[int, int]) -> dict[int, int]:
        reported = self._dead_letters.reported
        return {p: reported[p] for p, offset in offsets.items() if reported.get(p, 0) > offset}

    @property
    def waited(self) -> float:
        """Seconds since the oldest record that is not in a complete batch was received."""
        oldest = self._waiting.oldest
        arrived = [] if oldest is None else [oldest]
        arrived += [self._arrived] if self._samples or self._unlabelled else []
        return self._clock() - min(arrived) if arrived else 0.0

    @property
    def stalled(self) -> str:
        """What the rotation waits for; empty if there are no records that wait with it."""
        partition = self._partitions[self._turn]
        if self.awaits_label and self._late.full:
            return (
                f"a record of partition {partition} waits for its label, and none are read: labels.pending "
                "labels, or 64 MiB of them, wait for other records"
            )
        if self._waiting.first(partition) or not self._waiting:
            return ""
        return f"the rotation waits for a record of partition {partition}; other partitions have some"

    @property
    def awaits_label(self) -> bool:
        """Whether the record whose turn it is waits for its label."""
        waiting = self._waiting.first(self._partitions[self._turn])
        return waiting is not None and self._awaits_label(waiting)

    @property
    def start(self) -> Start:
        """Where the batch that is being filled begins."""
        return self._start

    @property
    def malformed(self) -> int:
        """Malformed records in the batch that is being filled, so far."""
        return sum(self._dead.values())

    def fills(self, ends: Mapping[int, int], malformed: int = 0) -> bool:
        """Return whether the records before ``ends`` suffice for a batch from `start` on.

        ``malformed`` is how many of them are known to be malformed.
        """
        available = [ends[p] - self._start.position.offsets[p] for p in self._partitions]
        wanted = self._size + malformed
        if self._start.left is not None:
            wanted = min(wanted, self._start.left)
        if self._linger:
            return sum(available) >= wanted
        count, turn = len(available), self._start.position.turn
        shares = [-(((index - turn) % count - wanted) // count) for index in range(count)]
        return all(records >= share for records, share in zip(available, shares, strict=True))

    def readable(self, ends: Mapping[int, int]) -> Mapping[int, int]:
        """Return ``ends`` without trailing offsets that hold no record."""
        reached = self._source.reached()
        return {
            p: self._next[p] if p in self._next and not self._waiting.first(p) and reached[p] >= end else end
            for p, end in ends.items()
        }

    @property
    def ended(self) -> bool:
        """Whether ``stop_after`` is reached."""
        return self._left is not None and self._left <= 0

    def fill(self, slot: int, timeout: float) -> FilledBatch | None:
        """Continue filling ``slot``; return the batch when it is complete, else None.

        Call it with the same slot until it returns a batch. Raises the errors of the source and of the
        dead letters, after which the call can be repeated without loss, and ReaderDied.
        """
        try:
            self._waiting.check_decoders()
            if not self._take(slot):
                self._poll(timeout)
                if not (self._take(slot) or self._lingered() or self._all_malformed()):
                    return None
            return self._complete(slot)
        finally:
            self._slots.queued = len(self._waiting)

    def _poll(self, timeout: float) -> None:
        records = self._source.poll(timeout, READ_AHEAD_RECORDS, self._waiting.full)
        self._waiting.add(records, self._clock())
        self._idle.difference_update(record.partition for record in records)

    def flush_dead_letters(self) -> AcknowledgedDeadLetters | None:
        """Flush the dead letters of an incomplete batch when that is due; return them all, or None.

        Raises the errors of the dead letters.
        """
        if not self._reports_due():
            return None
        self._dead_letters.flush()
        self._acknowledged = self.malformed
        return AcknowledgedDeadLetters(dict(self._dead), self._reported_beyond(self._start.position.offsets))

    def _reports_due(self) -> bool:
        new = self.malformed - self._acknowledged
        waited = self._clock() - self._unreported_since
        return new >= REPORT_RECORDS or (new > 0 and waited >= REPORT_SECONDS)

    def _all_malformed(self) -> bool:
        """Return whether to return a batch without samples."""
        return self._samples + self._unlabelled == 0 and self._reports_due()

    def _take(self, slot: int) -> bool:
        """Move waiting records into the slot, in rotation; return whether the batch is complete."""
        while self._samples + self._unlabelled < self._size and not self.ended:
            partition = self._partitions[self._turn]
            waiting = self._waiting.first(partition)
            if self._until is not None and self._next[partition] >= self._until.get(partition, 0):
                self._turn = (self._turn + 1) % len(self._partitions)
                continue
            if waiting is None:
                if not self._skips():
                    return False
                continue
            if self._awaits_label(waiting):
                return False
            self._read(slot, waiting)
            self._waiting.remove_first(partition)
            self._turn = (self._turn + 1) % len(self._partitions)
        return self._received > 0

    def _awaits_label(self, waiting: Waiting) -> bool:
        """Return whether a record has no label yet and may still get one."""
        if self._late is NO_LABELS or waiting.label is not None or _has_label(waiting.record):
            return False
        return self._late.awaits(waiting.record, waiting.at)

    def _skips(self) -> bool:
        """Skip the turn of a partition without a record, if ``batch.linger`` has passed and others have one.

        A skipped partition is not waited for again before its next record.
        """
        partition = self._partitions[self._turn]
        if not self._linger or not self._waiting:
            return False
        if partition not in self._idle:
            if not self._linger_over():
                return False
            self._idle.add(partition)
        self._turn = (self._turn + 1) % len(self._partitions)
        return True

    def _read(self, slot: int, waiting: Waiting) -> None:
        record = waiting.record
        expected = self._next[record.partition]
        if record.offset < expected:
            raise PositionLost(f"partition {record.partition}: offset {record.offset} was served twice")
        label = self._late_label(waiting)
        try:
            sample = within(self._decoding_seconds, partial(self._sample, waiting, label))
        except MalformedRecord as error:
            self._dead_letters.send(record, error)
            if self.malformed == self._acknowledged:
                self._unreported_since = self._clock()
            self._dead[error.reason] += 1
        else:
            if self._samples + self._unlabelled == 0:
                self._arrived, self._produced = waiting.at, record.timestamp / 1000
            self._arrived = min(self._arrived, waiting.at)
            self._put(slot, record, sample)
            self._joined += label is not None
        self._taken = self._clock()
        self._received += 1
        lost = self._account_gap(record.partition, expected, record.offset)
        self._next[record.partition] = record.offset + 1
        if self._until is not None and self._left is not None:
            self._left -= min(self._until.get(record.partition, 0), record.offset + 1) - expected
        elif self._left is not None:
            self._left -= 1 + lost

    def _put(self, slot: int, record: Record, sample: Sample) -> None:
        """Copy a sample into the slot, and note where it came from."""
        origin = None if self._origin_headers is None else origin_of(record, self._origin_headers)
        if sample.label == UNLABELLED:
            self._slots.put_unlabelled(slot, self._unlabelled, sample)
            self._unlabelled += 1
            self._unlabelled_origins += [origin] if origin else []
            return
        self._slots.put(slot, self._samples, sample)
        self._samples += 1
        if self._names is not None and sample.name is not None:
            self._names.add(sample.name)
        self._places.append((record.partition, record.offset))
        self._origins += [origin] if origin else []
        count_segment(self._segments, sample.segment)

    def _late_label(self, waiting: Waiting) -> bytes | None:
        """Return the label that came for a record without one; None if it has one or none came."""
        if self._late is NO_LABELS or _has_label(waiting.record):
            return None
        if waiting.label is None:  # else its dead letter could not be sent, and it is its turn again
            waiting.label = self._late.take(waiting.record)
        return waiting.label

    def _sample(self, waiting: Waiting, label: bytes | None) -> Sample:
        record = waiting.record
        return decode(
            record.value,
            record.headers if label is None else [*record.headers, ("label", label)],
            self._layout,
            self._segment_names,
            self._names,
            unlabelled=self._accepts_unlabelled,
            pixels=self._waiting.pixels(waiting),
        )

    def _account_gap(self, partition: int, expected: int, offset: int) -> int:
        """Count the offsets before ``offset`` that were not served; return how many were lost records."""
        if offset == expected:
            return 0
        skipped = self._source.skipped(partition, expected, offset)
        self._skipped += skipped
        lost = offset - expected - skipped
        self._lost += lost
        return lost

    def _lingered(self) -> bool:
        return self._received > 0 and self._linger_over()

    def _linger_over(self) -> bool:
        return 0 < self._linger <= self._clock() - self._taken

    def _complete(self, slot: int) -> FilledBatch:
        self._dead_letters.flush()
        ends = self.readable(self._source.known_ends())
        filled = FilledBatch(
            slot=slot,
            samples=self._samples,
            first=self._first,
            position=self._position(ends),
            received=self._received,
            dead=dict(self._dead),
            lost=self._lost,
            skipped=self._skipped,
            segments=tuple(self._segments),
            arrived=self._arrived,
            produced=self._produced,
            ends=ends,
            left=self._left,
            places=tuple(self._places),
            origins=(*self._origins, *reversed(self._unlabelled_origins)),
            unlabelled=self._unlabelled,
            joined=self._joined,
            dropped_labels=self._late.dropped(),
        )
        self._begin()
        return filled


def count_segment(runs: list[tuple[str | None, int]], segment: str | None) -> None:
    """Add a sample of ``segment`` to ``runs`` of equal segments."""
    if runs and runs[-1][0] == segment:
        runs[-1] = (segment, runs[-1][1] + 1)
    else:
        runs.append((segment, 1))


def _has_label(record: Record) -> bool:
    return any(name == "label" and value is not None for name, value in record.headers)
