"""Which rank the others wait for, and for how long, as rank 0 sees it."""

import time
from collections.abc import Callable, Collection, Sequence

__all__ = ["RoundTimes"]


class RoundTimes:
    """Counts, for each of ``size`` ranks, the seconds in which all others waited for it alone.

    Within a round that is how much longer the slowest rank learns than the next one. Between two rounds it is
    the time in which a single rank has no batch yet, or in which rank 0 solves or saves.
    """

    def __init__(self, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waited_for = [0.0] * size
        self._one: int | None = None
        self._since = self._began = clock()

    def wait_for(self, ranks: Collection[int]) -> None:
        """From now on only ``ranks`` are waited for."""
        now = self._clock()
        if self._one is not None:
            self._waited_for[self._one] += now - self._since
        alone = len(ranks) != 1 or len(self._waited_for) == 1  # then no rank waits for a single other one
        self._since, self._one = now, None if alone else next(iter(ranks))

    def begin_round(self) -> None:
        """Every rank begins to learn."""
        self.wait_for(())
        self._began = self._since

    @property
    def elapsed(self) -> float:
        """Seconds since the round began."""
        return self._clock() - self._began

    def end_round(self, learning: Sequence[float]) -> Sequence[float]:
        """Return the seconds for which each rank was waited for since the last call.

        All have learned, each for so many seconds of ``learning``; rank 0 is waited for from now on.
        """
        slowest = max(range(len(learning)), key=learning.__getitem__)
        others = [seconds for rank, seconds in enumerate(learning) if rank != slowest]
        waited_for, self._waited_for = self._waited_for, [0.0] * len(learning)
        if others:
            waited_for[slowest] += learning[slowest] - max(others)
        self.wait_for((0,))
        return waited_for
