"""A stream in time: when each record is sent, and where to go on after an interruption."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from producers.holdback import HoldBack
from producers.records import Record
from service.errors import InvalidSetting

__all__ = ["Pace", "Sink", "Tail", "first_to_send", "left_to_send", "replay"]


@dataclass(frozen=True, slots=True)
class Pace:
    """``rate`` records a second, one by one or ``burst`` at a time; rate None is as fast as possible."""

    rate: float | None = None
    burst: int = 1

    def __post_init__(self) -> None:
        if self.rate is not None and self.rate <= 0:
            raise ValueError(f"rate must be above 0 records/s, not {self.rate}")
        if self.burst < 1:
            raise ValueError(f"burst must be at least 1 record, not {self.burst}")

    def due(self, nth: int) -> float:
        """Return when the nth record (from 0) is sent, in seconds after the first.

        >>> [Pace(rate=10, burst=2).due(nth) for nth in range(5)]
        [0.0, 0.0, 0.2, 0.2, 0.4]
        """
        return 0.0 if self.rate is None else nth // self.burst * self.burst / self.rate


@dataclass(frozen=True, slots=True)
class Tail:
    """Where a partition ends: the next offset, and the last record's key.

    ``key`` is None when the partition holds no record, or its last one has no key.
    """

    end: int
    key: bytes | None


class Sink(Protocol):
    """What records are sent to."""

    partitions: int

    def send(self, record: Record, partition: int) -> None:
        """Queue a record."""
        ...

    def flush(self) -> None:
        """Return when every record queued is acknowledged."""
        ...


def first_to_send(run: str, tails: Sequence[Tail]) -> list[int]:
    """Return, for each partition, the index of the first record of ``run`` that it lacks.

    Record i of a run is in partition i modulo the number of partitions, so the last record of
    each says what is missing there, even when the broker took more into one than into another.
    Raises InvalidSetting when a partition ends with a record that is not of ``run``.
    """
    firsts = []
    for partition, tail in enumerate(tails):
        if tail.end == 0:
            firsts.append(partition)
            continue
        if tail.key is None:
            raise InvalidSetting(
                f"resume: partition {partition} is empty up to offset {tail.end}, or its last record has"
                " no key, so it cannot be told where the stream stopped"
            )
        head, _, index = tail.key.decode("ascii", "backslashreplace").rpartition("/")
        if head != run or not index.isdigit() or int(index) % len(tails) != partition:
            raise InvalidSetting(
                f"resume: partition {partition} ends with {tail.key!r}, which is not a record of {run}"
            )
        firsts.append(int(index) + len(tails))
    return firsts


def left_to_send(total: int, firsts: Sequence[int]) -> list[int]:
    """Return, in order, each index below ``total`` that its partition lacks."""
    partitions = len(firsts)
    return [index for index in range(min(firsts), total) if index >= firsts[index % partitions]]


def replay(
    record_at: Callable[[int], Record],
    sink: Sink,
    indices: Iterable[int],
    pace: Pace,
    hold_back: HoldBack,
    sent: Callable[[int], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Send the records of ``indices`` at ``pace``, and call ``sent`` with each index.

    A record that is late because it was held back delays all that follow: the time is not made up
    for by a burst. When this returns, every record is acknowledged; when it is interrupted, those
    queued are flushed first.
    """
    start = clock()
    try:
        for nth, index in enumerate(indices):
            partition = index % sink.partitions
            asked = clock()
            hold_back.before_send(partition)
            now = clock()
            late = now - start - pace.due(nth)
            if late < 0:
                sleep(-late)
            else:
                start += min(late, now - asked)
            sink.send(record_at(index), partition)
            sent(index)
    except KeyboardInterrupt:
        sink.flush()
        raise
    sink.flush()
