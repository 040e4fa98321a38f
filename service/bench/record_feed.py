"""A feed of records in memory: what a learner is given where there is no broker."""

import multiprocessing
import time
from collections import Counter
from collections.abc import Iterable

from producers.records import Record
from service.batching import Filled, Start, count_segment
from service.errors import MalformedRecord
from service.feed import Batch
from service.slots import BatchSettings, Slots
from service.stream.source import Position
from service.wire import Layout, decode

__all__ = ["RecordFeed"]


class RecordFeed:
    """A `service.feed.Feed` of ``count`` records in memory, in batches of fixed size, one slot at a time.

    Without ``segments`` nobody is told which segment a sample is of.
    """

    def __init__(self, records: Iterable[Record], count: int, batch: BatchSettings, segments: bool) -> None:
        self._records = iter(records)
        self._left = count
        self._size = batch.size
        self._segments = segments
        self._layout = Layout()
        self._slots = Slots(self._layout, batch, multiprocessing.get_context("spawn"))
        self._offset = 0

    def next(self, _timeout: float) -> Batch:
        """Return the next batch, with what was malformed on the way to it counted."""
        first, dead = self._offset, Counter[str]()
        runs: list[tuple[str | None, int]] = []
        samples = 0
        while samples < self._size and self._left:
            self._left -= 1
            self._offset += 1
            record = next(self._records)
            try:
                sample = decode(record.value, record.headers, self._layout)
            except MalformedRecord as error:
                dead[error.reason] += 1
                continue
            self._slots.put(0, samples, sample)
            samples += 1
            count_segment(runs, sample.segment if self._segments else None)
        filled = Filled(
            slot=0,
            samples=samples,
            first={0: first},
            position=Position({0: self._offset}),
            received=self._offset - first,
            dead=dead,
            lost=0,
            segments=runs,
            arrived=time.monotonic(),
            produced=time.time(),
            ends={0: self._offset + self._left},
            left=self._left,
        )
        return Batch(self._slots, filled)

    def release(self, batch: Batch) -> None:
        """Take the slot back."""
        batch.discard()

    def commit(self, position: Position, keep: Position | None = None) -> None:
        """There is nobody to tell."""

    def pause(self, start: Start | None) -> None:
        """Raise NotImplementedError."""
        raise NotImplementedError("no policy holds for a rehearsal")

    def resume(self) -> None:
        """Raise NotImplementedError."""
        raise NotImplementedError("no policy holds for a rehearsal")

    @property
    def resident(self) -> int:
        """Samples whose pixels are in the slot."""
        return self._slots.resident

    def close(self) -> None:
        """Overwrite what is left."""
        self._slots.discard_all()
