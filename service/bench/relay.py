"""Sides that take turns within one run: each has the stream for some thousand samples, then the next one.

What else a machine does changes more slowly than that, so it slows down all sides alike.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["SETTLING", "Relay", "Stretch"]

SETTLING: Final = 1024
"""Samples after a change of sides that do not count."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was learned from ``began`` to ``ended``, on the monotonic clock."""

    began: float
    ended: float
    samples: int

    @property
    def samples_per_second(self) -> float:
        """How fast it was learned."""
        return self.samples / (self.ended - self.began)


class Relay:
    """Is told of every batch, on the thread that learns, and says whose turn it is.

    The first ``warm`` samples do not count. Then one after the other of ``sides`` has its turn, for
    ``samples`` each; ``switch`` is told its name.
    """

    def __init__(
        self,
        sides: Sequence[str],
        samples: int,
        warm: int,
        switch: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stretches: list[tuple[str, Stretch]] = []
        """What each side learned in its turn."""
        self.side: str | None = None
        """Whose turn it is; None before the first and after the last one."""
        self._left, self._samples, self._wait = list(sides), samples, warm
        self._switch, self._clock = switch, clock
        self._began: float | None = None
        self._learned = 0

    def __call__(self, samples: int) -> None:
        """Count a batch that was just learned."""
        if self._began is None:
            self._wait -= samples
            if self._wait <= 0 and self.side is None:
                self._next()
            elif self._wait <= 0:
                self._began, self._learned = self._clock(), 0
            return
        self._learned += samples
        if self._learned >= self._samples:
            self.stretches.append((str(self.side), Stretch(self._began, self._clock(), self._learned)))
            self._next()

    def _next(self) -> None:
        self._began, self._wait = None, SETTLING
        self.side = self._left.pop(0) if self._left else None
        if self.side is not None:
            self._switch(self.side)
