"""Measures how many images a second a reader decodes, by their format, size and the number of readers.

Each measurement is a reader process on a topic that was filled before; its batches are discarded as they
come. All sides of one size are measured in turns, so that load on the machine slows down all alike. The topic
is longer than what is timed: at both ends of the interval images are read and decoded ahead.

Shapes: C channels, H height, W width.
"""

import io
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median
from typing import Final

import numpy as np
from PIL import Image

from lethe.errors import BrokerUnavailable
from lethe.experiments.bench.random_orders import random_orders
from lethe.experiments.topics import publish, temporary_topic
from lethe.ingest.feed import Batch
from lethe.ingest.reader_process import ReaderProcess
from lethe.settings import BatchSettings
from lethe.stream.settings import StreamSettings
from lethe.wire import CONTENT_TYPES, PNG, RAW, Format, Layout, Pixels, Sample, encode

__all__ = ["FORMATS", "DecodingBench", "Rates", "Side", "bench_decoding"]

FORMATS: Final[tuple[Format, ...]] = ("raw", "png", "jpeg")
BATCH: Final = 32
WARM_SHARE: Final = 1 / 8
"""Share of the images that is read before the time begins, and again after it ends."""
PARTITION_BYTES: Final = 4 << 20
"""The embedded broker retains 5 MiB of each partition."""
LARGEST_GREY: Final = 64
"""Images of more pixels a side are RGB."""
DIFFERENT: Final = 64
"""Different images in a topic."""
_QUALITY: Final = 90
_CELLS: Final = 8
_NOISE: Final = 4.0
_SILENCE_SECONDS: Final = 120.0


@dataclass(frozen=True)
class DecodingBench:
    """Options of the benchmark."""

    broker: str | None = None
    """HOST:PORT of a Kafka cluster; None starts embedded brokers."""
    readers: Sequence[int] = (1, 2)
    turns: int = 3
    images: Mapping[int, int] | None = None
    """Images in a topic by their height and width; by default 8,000 of 28 pixels and 800 of 224."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the things that are compared: images of one size and format, and a number of readers."""

    size: int
    form: Format
    readers: int

    @property
    def layout(self) -> Layout:
        """The layout of the stream."""
        channels = 1 if self.size <= LARGEST_GREY else 3
        return Layout(channels=channels, height=self.size, width=self.size, formats="png,jpeg,raw")


class Rates:
    """Images a second of each side, turn by turn."""

    def __init__(self) -> None:
        self.turns: dict[Side, list[float]] = {}

    def add(self, side: Side, rate: float) -> None:
        """Add a measurement."""
        self.turns.setdefault(side, []).append(rate)

    def mean(self, side: Side) -> float:
        """Return the mean over the turns."""
        return sum(self.turns[side]) / len(self.turns[side])

    def to_raw(self, side: Side) -> float:
        """Return the median over the turns of a side's rate, relative to that of raw images of its size."""
        return self._ratio(side, Side(side.size, "raw", 1))

    def to_fewest_readers(self, side: Side) -> float:
        """Return the same, relative to the smallest number of readers with the same images."""
        same = [other.readers for other in self.turns if (other.size, other.form) == (side.size, side.form)]
        return self._ratio(side, Side(side.size, side.form, min(same)))

    def _ratio(self, side: Side, other: Side) -> float:
        return median(one / base for one, base in zip(self.turns[side], self.turns[other], strict=True))


def bench_decoding(bench: DecodingBench, seed: int = 0) -> Iterator[Rates]:
    """Yield the rates so far after each turn of each size. Raises LetheError if the broker is unreachable."""
    rates = Rates()
    for size, count in (bench.images or {28: 8000, 224: 800}).items():
        with ExitStack() as topics:
            streams = {
                form: topics.enter_context(_filled(bench.broker, Side(size, form, 1), count, seed))
                for form in FORMATS
            }
            sides = [
                Side(size, form, readers)
                for form in FORMATS
                for readers in (bench.readers if form != "raw" else (1,))
            ]
            rates.turns |= {side: [] for side in sides}  # rows of the table are in this order
            for order in islice(random_orders(sides, seed), bench.turns):
                for side in order:
                    rates.add(side, _measured(streams[side.form], side, count))
                yield rates


@contextmanager
def _filled(broker: str | None, side: Side, count: int, seed: int) -> Iterator[StreamSettings]:
    """Create a topic of ``count`` images, and yield its settings; it is deleted on exit."""
    records = [_record(x_CHW, side.form) for x_CHW in _pictures(side.layout, DIFFERENT, seed)]
    size = sum(len(value) for value, _ in records) * count // len(records)
    partitions = 1 + size // PARTITION_BYTES if broker is None else 1
    with temporary_topic(broker, f"bench-{side.form}", partitions) as stream:
        publish(stream, islice(cycle(records), count))
        yield stream


def _pictures(layout: Layout, count: int, seed: int) -> Iterator[Pixels]:
    """Yield images as smooth as photographs, with a little noise."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        planes = [
            Image.fromarray(rng.integers(0, 256, (_CELLS, _CELLS), np.uint8)).resize(
                (layout.width, layout.height), Image.Resampling.BICUBIC
            )
            for _ in range(layout.channels)
        ]
        noise_CHW = rng.normal(0, _NOISE, layout.shape)
        yield np.clip(np.stack([np.asarray(plane) for plane in planes]) + noise_CHW, 0, 255).astype(np.uint8)


def _record(x_CHW: Pixels, form: Format) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Return value and headers of a record of an image."""
    if form != "jpeg":
        return encode(Sample(x_CHW, 0), PNG if form == "png" else RAW)
    buffer = io.BytesIO()
    plane = x_CHW[0] if len(x_CHW) == 1 else x_CHW.transpose(1, 2, 0)
    Image.fromarray(np.ascontiguousarray(plane)).save(buffer, format="JPEG", quality=_QUALITY)
    return buffer.getvalue(), [("content-type", CONTENT_TYPES[form].encode()), ("label", b"0")]


def _measured(stream: StreamSettings, side: Side, count: int) -> float:
    """Return the images a second of a new reader process. Raises LetheError if it fails."""
    warm = int(WARM_SHARE * count)
    feed = ReaderProcess(stream, BatchSettings(size=BATCH, readers=side.readers), side.layout)
    try:
        _, began = _read(feed, max(1, warm))
        timed, ended = _read(feed, count - 2 * warm)
    finally:
        feed.close()
    return timed / (ended - began)


def _read(feed: ReaderProcess, count: int) -> tuple[int, float]:
    """Discard so many images or a few more; return how many it were, and when the last ones came."""
    read, came = 0, time.monotonic()
    while read < count:
        message = feed.next(1.0)
        if isinstance(message, Batch):
            read, came = read + message.filled.received, time.monotonic()
            feed.release(message)
        elif time.monotonic() - came > _SILENCE_SECONDS:
            raise BrokerUnavailable(f"no image came for {_SILENCE_SECONDS:.0f} s")
    return read, came
