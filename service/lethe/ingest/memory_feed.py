"""A feed of records in memory, for learning without a broker."""

import multiprocessing
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Final, Protocol

from lethe.errors import MalformedRecord
from lethe.ingest.batcher import FilledBatch, Start, count_segment
from lethe.ingest.feed import Batch, FeedMessage
from lethe.ingest.slots import Slots
from lethe.settings import BatchSettings
from lethe.stream.source import Position
from lethe.wire import UNLABELLED, Layout, Reason, Sample, decode

__all__ = ["EncodedRecord", "Malformed", "MemoryFeed", "decode_all"]

DEFAULT_LAYOUT: Final = Layout()


class EncodedRecord(Protocol):
    """A record as a producer encodes it."""

    @property
    def value(self) -> bytes | None:
        """The encoded image; None is malformed."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Label, shape and content type, see `lethe.wire`."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """A record that cannot be decoded."""

    reason: Reason = Reason.UNDECODABLE


def decode_all(
    records: Iterable[EncodedRecord], segments: bool, layout: Layout = DEFAULT_LAYOUT
) -> Iterator[Sample | Malformed]:
    """Decode ``records`` of ``layout``; without ``segments``, drop the names of segments."""
    for record in records:
        try:
            sample = decode(record.value, record.headers, layout)
        except MalformedRecord as error:
            yield Malformed(Reason(error.reason))
        else:
            yield sample if segments else replace(sample, segment=None)


class MemoryFeed:
    """A `Feed` of ``count`` decoded records, in batches of fixed size, one slot at a time.

    ``count`` is None for all records, however many; one record is then read ahead of each batch. With
    ``split``, a batch ends where a segment does.
    """

    def __init__(
        self,
        records: Iterable[Sample | Malformed],
        count: int | None,
        batch: BatchSettings,
        layout: Layout = DEFAULT_LAYOUT,
        *,
        split: bool = False,
    ) -> None:
        self._split = split
        self._segment: str | None = None
        self.slots = Slots(layout, batch, multiprocessing.get_context("spawn"))
        self._records = iter(records)
        self._ahead: list[Sample | Malformed] = []
        self._size = batch.size
        self._offset, self._end = 0, count

    def next(self, _timeout: float) -> FeedMessage | None:
        """Return the next batch; the last one may be incomplete."""
        return Batch(self.slots, self._fill(0, self._take()))

    def _take(self) -> list[Sample | Malformed]:
        """Return the next records, with as many samples as a batch holds."""
        taken: list[Sample | Malformed] = []
        samples = 0
        limit = None if self._end is None else self._end - self._offset
        ahead, self._ahead = self._ahead, []
        for record in islice(chain(ahead, self._records), limit):
            if self._split and isinstance(record, Sample) and record.segment != self._segment:
                self._segment = record.segment
                if samples:
                    self._ahead = [record]
                    break
            taken.append(record)
            samples += isinstance(record, Sample)
            if samples == self._size:
                break
        return taken

    def _fill(self, slot: int, records: Sequence[Sample | Malformed], lost: int = 0) -> FilledBatch:
        """Fill a slot with ``records``, besides which ``lost`` offsets are passed."""
        first = self._offset
        self._offset += len(records) + lost
        left = self._left()
        dead = Counter[str]()
        segments: list[tuple[str | None, int]] = []
        samples = unlabelled = 0
        for record in records:
            if isinstance(record, Malformed):
                dead[record.reason] += 1
                continue
            if record.label == UNLABELLED:
                self.slots.put_unlabelled(slot, unlabelled, record)
                unlabelled += 1
                continue
            self.slots.put(slot, samples, record)
            samples += 1
            count_segment(segments, record.segment)
        return FilledBatch(
            slot=slot,
            samples=samples,
            first={0: first},
            position=Position({0: self._offset}),
            received=len(records),
            dead=dead,
            lost=lost,
            skipped=0,
            segments=segments,
            arrived=time.monotonic(),
            produced=time.time(),
            ends={0: self._offset + left},
            left=left,
            unlabelled=unlabelled,
        )

    def _left(self) -> int:
        """Return how many records are left; of an unknown number, whether there is another one."""
        if self._end is not None:
            return self._end - self._offset
        self._ahead = self._ahead or list(islice(self._records, 1))
        return len(self._ahead)

    def release(self, batch: Batch) -> None:
        """Discard a batch, whose slot is free again."""
        batch.discard()

    def commit(self, position: Position, keep: Position | None = None) -> None:
        """Do nothing: there is no broker to commit to."""

    def pause(self, start: Start | None) -> None:
        """Raise NotImplementedError: without a broker, records cannot be read again."""
        raise NotImplementedError("a feed of records in memory cannot be paused")

    def resume(self) -> None:
        """Raise NotImplementedError, as `pause`."""
        raise NotImplementedError("a feed of records in memory cannot be paused")

    @property
    def resident(self) -> int:
        """Samples whose pixels are in the slots."""
        return self.slots.resident

    def close(self) -> None:
        """Overwrite every slot."""
        self.slots.discard_all()
