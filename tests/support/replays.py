"""A replay with a clock that only sleeping advances, into a sink that records what arrives."""

from collections.abc import Callable

from lethe_producers.backpressure import Backpressure
from lethe_producers.records import Record
from lethe_producers.replay import Pace, replay

__all__ = ["Clock", "Topic", "run"]


class Clock:
    """A clock that only sleeping advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Topic:
    """A sink that records each record's partition and time."""

    def __init__(self, partitions: int, clock: Clock) -> None:
        self.partitions = partitions
        self.came: list[tuple[int, int, float]] = []
        self.flushed = 0
        self._clock = clock

    def send(self, record: Record, partition: int) -> None:
        self.came.append((record.index, partition, self._clock()))

    def flush(self, seconds: float | None = None) -> None:
        self.flushed = len(self.came)


def record_at(index: int) -> Record:
    return Record(index, b"s/0/%d" % index, b"", [])


def nobody(url: str) -> dict[int, int]:
    raise AssertionError(f"{url} was asked")


def run(
    clock: Clock, topic: Topic, count: int, pace: Pace, sent: Callable[[int], None] = lambda _: None
) -> list[float]:
    hold_back = Backpressure((), 1, 0, [0] * topic.partitions, nobody, clock, clock.sleep)
    replay(record_at, topic, range(count), pace, hold_back, sent, clock, clock.sleep)
    return [round(when - 100, 6) for _, _, when in topic.came]
