"""Encodes the rows of an order as Kafka records."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lethe.wire import RAW, Pixels, Sample, encode
from lethe_producers.datasets import VALIDATION, load
from lethe_producers.malformed import malformed
from lethe_producers.order import CLASSES, Order
from lethe_producers.scenario import Segment
from lethe_producers.transforms import transformed

__all__ = ["Record", "Records", "rows_of"]

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record; ``key`` is ``SCENARIO/SEED/INDEX`` in ASCII."""

    index: int
    key: bytes
    value: bytes | None
    headers: list[tuple[str, bytes]]


class Records:
    """The records of an order, by index.

    Raises DataUnavailable when a data set is not under ``root``.
    """

    def __init__(self, order: Order, root: Path, content_type: str = RAW) -> None:
        self.order = order
        self._content_type = content_type
        segments = {segment.pool: segment for segment in order.scenario.segments}
        loaded = {name: load(name, "train", root) for name in {pool[0] for pool in segments}}
        self._pools = {pool: rows_of(segment, *loaded[pool[0]]) for pool, segment in segments.items()}
        self._first_held_out = {
            pool: int(np.isin(loaded[pool[0]][1][:-VALIDATION], pool[1]).sum()) for pool in segments
        }

    def __len__(self) -> int:
        return len(self.order)

    def held_out(self, index: int) -> bool:
        """Return whether the row at ``index`` is of the validation split; raises IndexError as `at`."""
        place = self.order.at(index)
        return place.row >= self._first_held_out[self.order.scenario.segments[place.source].pool]

    def at(self, index: int) -> Record:
        """Return the record at ``index``; raises IndexError outside 0 to len − 1."""
        place = self.order.at(index)
        segments = self.order.scenario.segments
        x_NCHW, y_N = self._pools[segments[place.source].pool]
        image = transformed(x_NCHW[place.row : place.row + 1], segments[place.source].transform)[0]
        label = (int(y_N[place.row]) + place.label_shift) % CLASSES
        sample = Sample(image, label, segments[place.segment].subject)
        key = f"{self.order.run}/{index}".encode()
        if place.fault is not None:
            return Record(index, key, *malformed(sample, place.fault))
        return Record(index, key, *encode(sample, self._content_type))


def rows_of(segment: Segment, x_NCHW: Pixels, y_N: Labels) -> tuple[Pixels, Labels]:
    """Return the images and labels of the classes of ``segment``."""
    if segment.classes is None:
        return x_NCHW, y_N
    chosen = np.isin(y_N, segment.classes)
    return x_NCHW[chosen], y_N[chosen]
