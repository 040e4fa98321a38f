"""Times several sides of a comparison in turns within one run.

Load from other processes changes more slowly than the turns, so it slows down all sides alike.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["SETTLING", "InterleavedTiming", "Interval"]

SETTLING: Final = 1024
"""Samples after a change of sides that are not timed."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A timed interval: ``samples`` learned from ``began`` to ``ended``, on the monotonic clock."""

    began: float
    ended: float
    samples: int

    @property
    def samples_per_second(self) -> float:
        """Samples learned per second."""
        return self.samples / (self.ended - self.began)


class InterleavedTiming:
    """Counts learned batches, on the learning thread, and switches sides.

    The first ``warm`` samples are not timed. Then each of ``sides`` in turn is timed for ``samples``
    samples; ``switch`` is called with its name.
    """

    def __init__(
        self,
        sides: Sequence[str],
        samples: int,
        warm: int,
        switch: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.intervals: list[tuple[str, Interval]] = []
        """The timed intervals, each with its side."""
        self.side: str | None = None
        """The current side; None before the first and after the last turn."""
        self._left, self._samples, self._wait = list(sides), samples, warm
        self._switch, self._clock = switch, clock
        self._began: float | None = None
        self._learned = 0

    def __call__(self, samples: int) -> None:
        """Count a learned batch of ``samples`` samples."""
        if self._began is None:
            self._wait -= samples
            if self._wait <= 0 and self.side is None:
                self._next()
            elif self._wait <= 0:
                self._began, self._learned = self._clock(), 0
            return
        self._learned += samples
        if self._learned >= self._samples:
            self.intervals.append((str(self.side), Interval(self._began, self._clock(), self._learned)))
            self._next()

    def _next(self) -> None:
        self._began, self._wait = None, SETTLING
        self.side = self._left.pop(0) if self._left else None
        if self.side is not None:
            self._switch(self.side)
