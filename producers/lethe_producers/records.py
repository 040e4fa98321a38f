"""Encodes the rows of an order as Kafka records."""

from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from lethe.errors import InvalidSetting
from lethe.wire import RAW, Sample, encode
from lethe_producers.malformed import malformed
from lethe_producers.order import EndlessOrder, Order
from lethe_producers.sources.base import Rows
from lethe_producers.splits import rows_of, validation_size
from lethe_producers.transforms import transformed

__all__ = ["Record", "Records"]


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record; ``key`` is ``SCENARIO/SEED/INDEX`` in ASCII."""

    index: int
    key: bytes
    value: bytes | None
    headers: list[tuple[str, bytes]]


class Records:
    """The records of an order, by index.

    Labels are numbers, or with ``named`` the names of the classes. Raises DataUnavailable when a source
    cannot be read, InvalidSetting for names where the scenario's classes have none.
    """

    def __init__(
        self, order: Order | EndlessOrder, root: Path, content_type: str = RAW, *, named: bool = False
    ) -> None:
        self.order = order
        self._content_type, self._named = content_type, named
        if named and not order.scenario.stream_classes.names:
            raise InvalidSetting(
                f"--labels names: the classes of scenario {order.scenario.name} have no names, or not the"
                " same ones in all segments; its key classes gives names"
            )
        segments = {segment.pool: segment for segment in order.scenario.segments}
        opened: dict[object, Rows] = {}
        for pool, segment in segments.items():
            if pool[0] not in opened:
                opened[pool[0]] = segment.source.rows(segment.split, root)
        self._pools = {pool: rows_of(opened[pool[0]], segment) for pool, segment in segments.items()}
        self._labels = {pool: order.scenario.labels_of(segment) for pool, segment in segments.items()}
        self._first_held_out = {
            pool: int(np.isin(rows.y_N[: len(rows) - validation_size(rows)], pool[1]).sum())
            for pool in segments
            for rows in [opened[pool[0]]]
        }

    def __len__(self) -> int:
        if self.order.total is None:
            raise TypeError("an endless stream has no length")
        return self.order.total

    def held_out(self, index: int) -> bool:
        """Return whether the row at ``index`` is of the validation split; raises IndexError as `at`."""
        place = self.order.at(index)
        return place.row >= self._first_held_out[self.order.scenario.segments[place.source].pool]

    def at(self, index: int) -> Record:
        """Return the record at ``index``; raises IndexError outside 0 to len − 1."""
        place = self.order.at(index)
        scenario = self.order.scenario
        segments = scenario.segments
        pool = segments[place.source].pool
        rows = self._pools[pool]
        key = f"{self.order.run}/{index}".encode()
        pixels = rows.read(np.array([place.row]))
        pixels = transformed(pixels, segments[place.source].transform, [crc32(key)])[0]
        label = self._labels[pool][int(rows.y_N[place.row])]
        label = (label + place.label_shift) % scenario.stream_classes.count
        sample = Sample(pixels, label, segments[place.segment].subject)
        if place.fault is not None:
            return Record(index, key, *malformed(sample, place.fault, scenario.layout))
        value, headers = encode(sample, self._content_type)
        if self._named:
            name = scenario.stream_classes.names[label].encode()
            headers = [(header, name if header == "label" else text) for header, text in headers]
        return Record(index, key, value, headers)
