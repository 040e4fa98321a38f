"""Warns when the gradient surges: the weights are about to be rewritten, before any accuracy has fallen."""

from typing import Final

__all__ = ["FACTOR", "HORIZON", "WAIT", "SurgeTest"]

FACTOR: Final = 4.0
"""How many times its running mean a gradient must reach."""
HORIZON: Final = 50
"""Batches over which the mean is taken, exponentially."""
WAIT: Final = 50
"""Batches without a warning at the start and after a warning."""


class SurgeTest:
    """Compares the length of each gradient with its running mean.

    The gradients of a learned segment are short, since its loss is near a minimum; those of another one are
    long from the first batch on. Nothing of it is part of a checkpoint: after a restart it waits again.
    """

    def __init__(self) -> None:
        self._mean, self._batches, self._wait = 0.0, 0, WAIT

    def add(self, length: float) -> float | None:
        """Add the gradient of a batch; return its ratio to the mean if that is a surge."""
        ratio = length / self._mean if self._mean else 0.0
        surged = self._batches >= self._wait and ratio > FACTOR
        if surged:
            self._wait = self._batches + WAIT
        self._batches += 1
        self._mean += (length - self._mean) * max(1 / self._batches, 1 / HORIZON)
        return ratio if surged else None
