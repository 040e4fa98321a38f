"""Helpers of the batcher's tests: a batcher over a scripted topic, and its batches as plain numbers."""

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lethe.errors import BrokerUnavailable
from lethe.ingest.batcher import Batcher, FilledBatch
from lethe.ingest.decoding.decoders import Decoders
from lethe.ingest.late_labels import NO_LABELS, NoLateLabels
from lethe.ingest.slots import Slots
from lethe.settings import BatchSettings
from lethe.stream.source import Position
from lethe.wire import PNG, Layout, Sample, encode
from tests.support.sources import Letters, MemoryRecord, MemorySource, Step

__all__ = ["LAYOUT", "Made", "Rig", "bad", "good", "log", "png"]

LAYOUT = Layout(channels=1, height=1, width=2)
CONTEXT = multiprocessing.get_context("spawn")

Origin = tuple[int, int]
"""Partition and offset, which are also the two pixels of a valid record."""


def good(partition: int, offset: int, segment: str | None = None) -> MemoryRecord:
    headers = [
        ("content-type", b"application/octet-stream"),
        ("label", str(offset % 10).encode()),
        ("dtype", b"uint8"),
        ("shape", b"1,1,2"),
    ]
    if segment is not None:
        headers.append(("segment", segment.encode()))
    return MemoryRecord(partition, offset, bytes([partition, offset % 256]), headers, 1000 + offset)


def png(partition: int, offset: int) -> MemoryRecord:
    """The same sample as `good`, as a PNG."""
    pixels = np.array([[[partition, offset % 256]]], np.uint8)
    return MemoryRecord(partition, offset, *encode(Sample(pixels, offset % 10), PNG), 1000 + offset)


def bad(partition: int, offset: int) -> MemoryRecord:
    return MemoryRecord(partition, offset, None, [])


def log(partition: int, count: int) -> list[MemoryRecord]:
    return [good(partition, offset) for offset in range(count)]


@dataclass(frozen=True)
class Made:
    """One batch: its samples' records, and all that was reported about it."""

    samples: list[Origin]
    labels: list[int]
    filled: FilledBatch


class Rig:
    """A batcher over a scripted topic, its slots and its dead letters."""

    def __init__(
        self,
        logs: dict[int, list[MemoryRecord]],
        script: Sequence[Step] = (),
        *,
        size: int = 4,
        linger: float = 0.0,
        position: Position | None = None,
        stop_after: int | None = None,
        letters: Letters | None = None,
        clock: Callable[[], float] = lambda: 0.0,
        decoding_seconds: float | None = None,
        until: dict[int, int] | None = None,
        origin_headers: Sequence[str] | None = None,
        names: Sequence[str] | None = None,
        unlabelled: bool = False,
        late: NoLateLabels = NO_LABELS,
        decoders: Decoders | None = None,
    ) -> None:
        self.source = MemorySource(logs, script)
        self.letters = letters or Letters()
        batch = BatchSettings(size=size, slots=2, linger=linger)
        self.slots = Slots(LAYOUT, batch, CONTEXT)
        self.batcher = Batcher(
            self.source,
            self.letters,
            self.slots,
            LAYOUT,
            batch,
            position,
            stop_after,
            clock,
            decoding_seconds=decoding_seconds,
            until=until,
            origin_headers=origin_headers,
            names=names,
            unlabelled=unlabelled,
            late=late,
            decoders=decoders,
        )
        self.failures: list[Exception] = []

    def fill(self) -> Made | None:
        """One call of fill; if the broker is unavailable, that is noted and the call has no result."""
        try:
            filled = self.batcher.fill(0, timeout=0)
        except BrokerUnavailable as error:
            self.failures.append(error)
            return None
        if filled is None:
            return None
        assert self.letters.acknowledged == self.letters.sent
        x_BCHW = self.slots.x_SBCHW[0, : filled.samples]
        made = Made(
            [(int(x[0, 0, 0]), int(x[0, 0, 1])) for x in x_BCHW],
            self.slots.y_SB[0, : filled.samples].tolist(),
            filled,
        )
        self.slots.discard(0)
        return made

    def batches(self) -> list[Made]:
        """Every batch of the topic's records."""
        made: list[Made] = []
        silent = 0
        while silent < 3 and not self.batcher.ended:
            polls, failures = len(self.source.left_alone), len(self.failures)
            batch = self.fill()
            if batch is not None:
                made.append(batch)
            waiting = self.source.script or len(self.failures) > failures or batch is not None
            silent = 0 if waiting or len(self.source.left_alone) == polls else silent + 1
        return made
