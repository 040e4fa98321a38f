"""A `service.feed.Feed` in memory: samples, malformed records, gaps and outages, in a given order."""

import multiprocessing
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from service.batching import Filled, Start
from service.feed import Batch
from service.messages import BrokerState
from service.slots import BatchSettings, Slots
from service.stream.source import Position
from service.wire import Layout, Pixels, Reason, Sample

__all__ = ["LAYOUT", "Dead", "Gap", "Item", "MemoryFeed", "images", "segment"]

LAYOUT = Layout()


@dataclass(frozen=True)
class Dead:
    """A malformed record, already acknowledged by the dead-letter topic."""

    reason: Reason = Reason.UNDECODABLE


@dataclass(frozen=True)
class Gap:
    """Offsets that the broker never serves."""

    records: int = 1


Item = Sample | Dead | Gap | BrokerState


class MemoryFeed:
    """Hands over ``items`` in batches of ``size``, in real slots, filled as far ahead as slots are free.

    With ``ends`` the last batch is marked as the last and may be incomplete; without it, the feed
    has no news once its items are used up. A `BrokerState` is delivered between two batches, in
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
        self.slots = Slots(
            layout, BatchSettings(size=size, slots=slots), multiprocessing.get_context("spawn")
        )
        self.committed: list[Position] = []
        self.closed = False
        self._size, self._ends = size, ends
        self._items = deque(items)
        self._records = sum(item.records if isinstance(item, Gap) else 1 for item in self._records_left())
        self._offset = 0
        self._free = deque(range(slots))
        self._ready: deque[Filled | BrokerState] = deque()

    def _records_left(self) -> list[Sample | Dead | Gap]:
        return [item for item in self._items if not isinstance(item, BrokerState)]

    def next(self, timeout: float) -> Batch | BrokerState | None:
        while self._free and self._items:
            if isinstance(state := self._items[0], BrokerState):
                self._items.popleft()
                self._ready.append(state)
            elif (filled := self._fill(self._free[0])) is not None:
                self._free.popleft()
                self._ready.append(filled)
            else:
                break
        if not self._ready:
            return None
        news = self._ready.popleft()
        return Batch(self.slots, news) if isinstance(news, Filled) else news

    def _fill(self, slot: int) -> Filled | None:
        """Fill a slot; None, with nothing taken, when the records do not suffice and more may come."""
        states: list[BrokerState] = []
        taken: list[Sample | Dead | Gap] = []
        while self._items and sum(isinstance(item, Sample) for item in taken) < self._size:
            item = self._items.popleft()
            if isinstance(item, BrokerState):
                states.append(item)
            else:
                taken.append(item)
        self._items.extendleft(reversed(states))
        samples = [item for item in taken if isinstance(item, Sample)]
        if len(samples) < self._size and not self._ends:
            self._items.extend(taken)
            return None
        for index, sample in enumerate(samples):
            self.slots.put(slot, index, sample)
        lost = sum(item.records for item in taken if isinstance(item, Gap))
        received = sum(not isinstance(item, Gap) for item in taken)
        self._offset += lost + received
        return Filled(
            slot=slot,
            samples=len(samples),
            first={0: self._offset - lost - received},
            position=Position({0: self._offset}),
            received=received,
            dead=Counter(str(item.reason) for item in taken if isinstance(item, Dead)),
            lost=lost,
            segments=_runs(samples),
            arrived=time.monotonic(),
            produced=time.time(),
            ends={0: self._records},
            left=len(self._records_left()) if self._ends else None,
        )

    def go_on(self, position: Position) -> None:
        """Let the items lie in the topic from ``position`` on."""
        self._offset = position.offsets[0]

    def release(self, batch: Batch) -> None:
        batch.discard()
        self._free.append(batch.filled.slot)

    def commit(self, position: Position, keep: Position | None = None) -> None:
        self.committed.append(position)

    def pause(self, start: Start | None) -> None:
        raise AssertionError("nothing in these tests bounds the residency")

    def resume(self) -> None:
        raise AssertionError("nothing in these tests bounds the residency")

    @property
    def resident(self) -> int:
        return self.slots.resident

    def close(self) -> None:
        self.closed = True
        self.slots.discard_all()


def _runs(samples: Sequence[Sample]) -> tuple[tuple[str | None, int], ...]:
    runs: list[tuple[str | None, int]] = []
    for sample in samples:
        if runs and runs[-1][0] == sample.segment:
            runs[-1] = (sample.segment, runs[-1][1] + 1)
        else:
            runs.append((sample.segment, 1))
    return tuple(runs)


def images(count: int, seed: int = 0) -> tuple[Pixels, np.ndarray]:
    """Images of which each class has its own bright row, so that a few batches teach something."""
    rng = np.random.default_rng(seed)
    y_N = rng.integers(0, LAYOUT.classes, count)
    x_NCHW = rng.integers(0, 60, (count, *LAYOUT.shape), np.uint8)
    x_NCHW[np.arange(count), 0, 4 + 2 * y_N] = 255
    return x_NCHW, y_N


def segment(name: str | None, count: int, seed: int = 0) -> list[Sample]:
    """Samples of one segment."""
    x_NCHW, y_N = images(count, seed)
    return [Sample(pixels, int(label), name) for pixels, label in zip(x_NCHW, y_N, strict=True)]
