"""Measures throughput over the stream, with a bounded number of points."""

from dataclasses import dataclass
from typing import Final

from lethe.observability.result import ThroughputPoint

__all__ = ["THROUGHPUT_POINTS", "Throughput"]

THROUGHPUT_POINTS: Final = 512
"""Points kept of the curve; beyond that, neighbours are merged."""
RECENT: Final = 5
"""Marks over which the present throughput is measured."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Marks of samples learned against seconds spent learning, at least ``every`` seconds apart."""

    marks: tuple[tuple[int, float], ...] = ()
    every: float = 1.0

    def add(self, samples: int, seconds: float) -> "Throughput":
        """Return the throughput with another mark; the same object if the last one is too recent."""
        if self.marks and seconds - self.marks[-1][1] < self.every:
            return self
        marks = (*self.marks, (samples, seconds))
        if len(marks) > THROUGHPUT_POINTS:
            return Throughput(marks[:1] + marks[2::2], 2 * self.every)
        return Throughput(marks, self.every)

    def now(self, idle: float) -> float:
        """Return samples per second over the last few marks and the ``idle`` seconds since the newest."""
        if len(self.marks) < 2:
            return 0.0
        (before, start), (after, end) = self.marks[-min(RECENT, len(self.marks))], self.marks[-1]
        return (after - before) / (end - start + idle)

    def points(self) -> list[ThroughputPoint]:
        """Return the curve: one point between each pair of successive marks."""
        pairs = zip(self.marks, self.marks[1:], strict=False)
        return [
            ThroughputPoint(samples=(a[0] + b[0]) // 2, samples_per_second=(b[0] - a[0]) / (b[1] - a[1]))
            for a, b in pairs
        ]
