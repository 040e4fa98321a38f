"""Finds the beginnings of the segments of a stream, record by record, independently of the batches."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lethe.events import MIN_SEGMENT

__all__ = ["SegmentTracker", "Switch"]

MIXED: Final = 3
"""A stream is mixed after this multiple of ``least`` records without ``least`` successive ones of a name."""


@dataclass(frozen=True, slots=True)
class Switch:
    """The segment ``segment`` begins after ``samples`` samples."""

    samples: int
    segment: str


@dataclass(slots=True)
class SegmentTracker:
    """Finds the beginnings of segments in a stream whose records name them; its fields are its JSON.

    ``least`` successive records of one name make a segment, which begins with the first of them. A record
    without a name belongs to the same segment as the one before it. If names alternate faster than that, the
    stream is mixed, and the previous segment continues, if there was one.

    The segment that ends must be evaluated before ``least`` records of the next one are learned. Therefore
    the first record of the stream, and a record of another name after ``least`` of the current segment, is
    at once the `candidate` for a switch, until its segment is long enough or another name follows.

    >>> tracker = SegmentTracker(least=3)
    >>> tracker.read([("a", 5), ("b", 2)])
    [Switch(samples=0, segment='a')]
    >>> tracker.candidate
    Switch(samples=5, segment='b')
    >>> tracker.read([("b", 1), ("c", 1), ("b", 1), ("c", 3)])
    [Switch(samples=5, segment='b'), Switch(samples=10, segment='c')]
    """

    least: int = MIN_SEGMENT
    samples: int = 0
    """Samples read."""
    current: str | None = None
    """The latest segment that was long enough."""
    run: str | None = None
    """Name of the latest run of records."""
    began: int = 0
    """Samples before that run."""
    length: int = 0
    """Samples in that run."""
    candidate: Switch | None = None
    steady_at: int = 0
    """Samples read when the latest sample certainly belonged to the current segment."""

    def read(self, runs: Iterable[tuple[str | None, int]]) -> list[Switch]:
        """Read the next samples, as runs of equal names, and return the switches that they confirm."""
        certain = []
        for name, count in runs:
            if name is not None and name != self.run:
                self._begin_run(name)
            self.samples += count
            if self.run is None:
                continue
            self.length += count
            if self.length >= self.least and self.run != self.current:
                self.current, self.candidate = self.run, None
                certain.append(Switch(self.began, self.run))
            if self.length >= self.least:
                self.steady_at = self.samples
        return certain

    @property
    def mixed(self) -> bool:
        """Whether names have alternated for a while without a segment."""
        return self.run is not None and self.samples - self.steady_at >= MIXED * self.least

    def _begin_run(self, name: str) -> None:
        if self.run is None:
            self.steady_at = self.samples
        steady = self.run is None or (self.run == self.current and self.length >= self.least)
        self.candidate = Switch(self.samples, name) if steady else None
        self.run, self.began, self.length = name, self.samples, 0
