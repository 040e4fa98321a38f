"""Sends a stream at a given rate, and continues it after an interruption."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final, Protocol

from lethe.errors import InvalidSetting, LetheError
from lethe_producers.backpressure import Backpressure
from lethe_producers.deferred_interrupt import DeferredInterrupt
from lethe_producers.records import Record

__all__ = ["LOOK_BACK", "Pace", "Sink", "Tail", "first_to_send", "is_of", "left_to_send", "replay"]

INTERRUPTED_SECONDS: Final = 5.0
"""Timeout for the broker after Ctrl-C."""
LOOK_BACK: Final = 100_000
"""How many records at a partition's end are searched for the last one of the stream."""


@dataclass(frozen=True, slots=True)
class Pace:
    """``rate`` records per second, sent ``burst`` at a time; rate None is as fast as possible."""

    rate: float | None = None
    burst: int = 1

    def __post_init__(self) -> None:
        if self.rate is not None and self.rate <= 0:
            raise ValueError(f"rate must be above 0 records/s, not {self.rate}")
        if self.burst < 1:
            raise ValueError(f"burst must be at least 1 record, not {self.burst}")

    def due(self, nth: int) -> float:
        """Return when the nth record (from 0) is due, in seconds after the first.

        >>> [Pace(rate=10, burst=2).due(nth) for nth in range(5)]
        [0.0, 0.0, 0.2, 0.2, 0.4]
        """
        return 0.0 if self.rate is None else nth // self.burst * self.burst / self.rate


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a partition: the next offset, and the key of the last record of the stream.

    ``key`` is None when none of the last `LOOK_BACK` records is of the stream.
    """

    end: int
    key: bytes | None


class Sink(Protocol):
    """Where records are sent."""

    partitions: int

    def send(self, record: Record, partition: int) -> None:
        """Queue a record."""
        ...

    def flush(self, seconds: float | None = None) -> None:
        """Wait until every queued record is acknowledged, at most ``seconds`` for each."""
        ...


def is_of(run: str, key: bytes | None) -> bool:
    """Return whether a record with this key is one of ``run``.

    >>> [is_of("s/0", key) for key in (b"s/0/17", b"s/0/", b"s/1/17", None)]
    [True, False, False, False]
    """
    head, _, index = (key or b"").decode("ascii", "backslashreplace").rpartition("/")
    return head == run and index.isdigit()


def first_to_send(run: str, tails: Sequence[Tail]) -> list[int]:
    """Return, for each partition, the index of the first record of ``run`` that it lacks.

    Record i of a run is in partition i modulo the number of partitions, so the last record of each
    partition determines what it lacks, even if partitions got different numbers of records. Raises
    InvalidSetting for a partition with records but none of ``run``, or with one of another partition.
    """
    firsts = []
    for partition, tail in enumerate(tails):
        if tail.end == 0:
            firsts.append(partition)
            continue
        if tail.key is None:
            raise InvalidSetting(
                f"--resume: partition {partition} ends at offset {tail.end}, and none of its last"
                f" {LOOK_BACK:,} records is one of {run}, so it is not known where that run stopped; without"
                " --resume the stream is sent from its beginning"
            )
        index = int(tail.key.rpartition(b"/")[2])
        if index % len(tails) != partition:
            raise InvalidSetting(
                f"--resume: partition {partition} holds {tail.key.decode()}, which belongs in partition"
                f" {index % len(tails)}: it was sent when the topic had another number of partitions"
            )
        firsts.append(index + len(tails))
    return firsts


def left_to_send(total: int | None, firsts: Sequence[int]) -> Iterator[int]:
    """Yield, in order, each index below ``total`` that its partition lacks; total None has no end."""
    partitions = len(firsts)
    indices = count(min(firsts)) if total is None else range(min(firsts), total)
    return (index for index in indices if index >= firsts[index % partitions])


def replay(
    record_at: Callable[[int], Record],
    sink: Sink,
    indices: Iterable[int],
    pace: Pace,
    backpressure: Backpressure,
    sent: Callable[[int], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Send the records of ``indices`` at ``pace``, and call ``sent`` with each index.

    Time spent in backpressure delays all records that follow: it is not made up for by a burst. When this
    returns, every record is acknowledged. When it is interrupted, queued records are flushed first; if
    that fails, the error is the cause of the KeyboardInterrupt.
    """
    start = clock()
    with DeferredInterrupt() as interrupt:
        try:
            for nth, index in enumerate(indices):
                partition = index % sink.partitions
                asked = clock()
                backpressure.before_send(partition)
                now = clock()
                late = now - start - pace.due(nth)
                if late < 0:
                    sleep(-late)
                else:
                    start += min(late, now - asked)
                record = record_at(index)
                with interrupt.deferred():  # else a queued record might not be waited for
                    sink.send(record, partition)
                sent(index)
        except KeyboardInterrupt as interrupted:
            try:
                sink.flush(INTERRUPTED_SECONDS)
            except LetheError as error:
                raise interrupted from error
            raise
        sink.flush()
