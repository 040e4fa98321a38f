"""A feed in memory with all that a stream has: malformed records, gaps, outages and pauses."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from lethe.ingest.batcher import FilledBatch, Start
from lethe.ingest.feed import Batch
from lethe.ingest.memory_feed import Malformed, MemoryFeed
from lethe.ingest.messages import BrokerState
from lethe.settings import BatchSettings
from lethe.stream.source import Position
from lethe.wire import Layout, Pixels, Sample

__all__ = ["LAYOUT", "Gap", "Item", "ScriptedFeed", "images", "segment"]

LAYOUT = Layout()


@dataclass(frozen=True)
class Gap:
    """Offsets that the broker never serves."""

    records: int = 1


Item = Sample | Malformed | Gap | BrokerState


class ScriptedFeed(MemoryFeed):
    """Delivers ``items`` in batches of ``size``, filled as far ahead as slots are free.

    With ``ends`` the last batch is marked as the last and may be incomplete; without it, the feed
    delivers nothing once its items are used up. A `BrokerState` is delivered between two batches, in
    its place.
    """

    def __init__(
        self,
        items: Iterable[Item],
        size: int = 8,
        slots: int = 3,
        ends: bool = True,
        layout: Layout = LAYOUT,
    ) -> None:
        self._all = list(items)
        count = sum(map(_offsets, self._all))
        super().__init__((), count, BatchSettings(size=size, slots=slots), layout)
        self.committed: list[Position] = []
        self.closed = False
        self._ends = ends
        self._items = deque(self._all)
        self._first = 0
        self._paused = False
        self.handed_back = 0
        """How often records that were read ahead were discarded, to be read again."""
        self._free = deque(range(slots))
        self._ready: deque[FilledBatch | BrokerState] = deque()

    def next(self, _timeout: float) -> Batch | BrokerState | None:
        while self._free and self._items and not self._paused:
            if isinstance(state := self._items[0], BrokerState):
                self._items.popleft()
                self._ready.append(state)
            elif (filled := self._fill_next(self._free[0])) is not None:
                self._free.popleft()
                self._ready.append(filled)
            else:
                break
        if not self._ready:
            return None
        message = self._ready.popleft()
        return Batch(self.slots, message) if isinstance(message, FilledBatch) else message

    def _fill_next(self, slot: int) -> FilledBatch | None:
        """Fill a slot; None, without taking records, if they are too few and more may come."""
        states: list[BrokerState] = []
        taken: list[Sample | Malformed | Gap] = []
        while self._items and sum(isinstance(item, Sample) for item in taken) < self._size:
            item = self._items.popleft()
            if isinstance(item, BrokerState):
                states.append(item)
            else:
                taken.append(item)
        self._items.extendleft(reversed(states))
        if sum(isinstance(item, Sample) for item in taken) < self._size and not self._ends:
            self._items.extend(taken)
            return None
        records = [item for item in taken if not isinstance(item, Gap)]
        filled = self._fill(slot, records, lost=sum(map(_offsets, taken)) - len(records))
        return filled if self._ends else replace(filled, left=None)

    def go_on(self, position: Position) -> None:
        """Put the items into the topic from ``position`` on."""
        assert self._end is not None
        self._end += position.offsets[0] - self._first
        self._first = self._offset = position.offsets[0]

    def release(self, batch: Batch) -> None:
        super().release(batch)
        self._free.append(batch.filled.slot)

    def commit(self, position: Position, keep: Position | None = None) -> None:
        self.committed.append(position)

    def pause(self, start: Start | None) -> None:
        self._paused = True
        self.handed_back += 1
        self.slots.discard_all()
        self._ready.clear()
        self._free = deque(range(len(self.slots.x_SBCHW)))
        wanted = self._first if start is None else start.position.offsets[0]
        self._offset, self._items = self._first, deque(self._all)
        while self._offset < wanted:
            self._offset += _offsets(self._items.popleft())

    def resume(self) -> None:
        self._paused = False

    def close(self) -> None:
        self.closed = True
        super().close()


def _offsets(item: Item) -> int:
    """How many offsets of the topic an item takes."""
    if isinstance(item, BrokerState):
        return 0
    return item.records if isinstance(item, Gap) else 1


def images(count: int, seed: int = 0) -> tuple[Pixels, np.ndarray]:
    """Images of which each class has its own bright row, so that a few batches suffice to learn them."""
    rng = np.random.default_rng(seed)
    y_N = rng.integers(0, LAYOUT.classes, count)
    x_NCHW = rng.integers(0, 60, (count, *LAYOUT.shape), np.uint8)
    x_NCHW[np.arange(count), 0, 4 + 2 * y_N] = 255
    return x_NCHW, y_N


def segment(name: str | None, count: int, seed: int = 0) -> list[Sample]:
    """Samples of one segment."""
    x_NCHW, y_N = images(count, seed)
    return [Sample(pixels, int(label), name) for pixels, label in zip(x_NCHW, y_N, strict=True)]
