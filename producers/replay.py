"""A stream in time: when each record is sent, and where to go on after an interruption."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from producers.holdback import HoldBack
from producers.interruption import Interruption
from producers.records import Record
from service.errors import InvalidSetting

__all__ = ["LOOK_BACK", "Pace", "Sink", "Tail", "first_to_send", "is_of", "left_to_send", "replay"]

LOOK_BACK: Final = 100_000
"""So many records at a partition's end are searched for the last one of the stream to go on with."""


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
    """Where a partition ends: the next offset, and the key of the last record of the stream in question.

    ``key`` is None when none of its last `LOOK_BACK` records is one of that stream.
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


def is_of(run: str, key: bytes | None) -> bool:
    """Tell whether a record with this key is one of ``run``.

    >>> [is_of("s/0", key) for key in (b"s/0/17", b"s/0/", b"s/1/17", None)]
    [True, False, False, False]
    """
    head, _, index = (key or b"").decode("ascii", "backslashreplace").rpartition("/")
    return head == run and index.isdigit()


def first_to_send(run: str, tails: Sequence[Tail]) -> list[int]:
    """Return, for each partition, the index of the first record of ``run`` that it lacks.

    Record i of a run is in partition i modulo the number of partitions, so the last record of
    each says what is missing there, even when the broker took more into one than into another.
    Raises InvalidSetting for a partition with records and none of ``run``, or with one of another's.
    """
    firsts = []
    for partition, tail in enumerate(tails):
        if tail.end == 0:
            firsts.append(partition)
            continue
        if tail.key is None:
            raise InvalidSetting(
                f"resume: partition {partition} ends at offset {tail.end}, and none of its last {LOOK_BACK:,}"
                f" records is one of {run}, so it cannot be told where that stopped; without --resume"
                " the stream is sent from its beginning"
            )
        index = int(tail.key.rpartition(b"/")[2])
        if index % len(tails) != partition:
            raise InvalidSetting(
                f"resume: partition {partition} holds {tail.key.decode()}, which belongs into partition"
                f" {index % len(tails)}: it was sent when the topic had another number of partitions"
            )
        firsts.append(index + len(tails))
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
    with Interruption() as interruption:
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
                record = record_at(index)
                with interruption.held():  # or it may be queued and its acknowledgement not waited for
                    sink.send(record, partition)
                sent(index)
        except KeyboardInterrupt:
            sink.flush()
            raise
        sink.flush()
