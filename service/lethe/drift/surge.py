"""Warns when the loss surges: the weights are about to be rewritten, before any accuracy has fallen."""

import math
from typing import Final

__all__ = ["HORIZON", "LEAST_DEVIATION", "RARE", "SHIFT", "SurgeTest"]

SHIFT: Final = 3.0
"""The rise that the test is tuned to, in standard deviations of a batch."""
RARE: Final = 100_000
"""Batches between two false alarms, at least, if the batches were independent and normally distributed."""
HORIZON: Final = 50
"""Batches over which mean and deviation are taken, exponentially, and without a warning at first."""
LEAST_DEVIATION: Final = 0.1
"""Minimum deviation of the root. One very wrong image, with loss 16 among 64, raises the root of a loss of 0
to 0.5, which is no evidence of another segment."""


class SurgeTest:
    """A cumulative-sum test (Page 1954) for a rise of the loss of the batches, before each is learned.

    It works on the root of the loss: what is left of the loss of a learned segment stems from few images, and
    the root of such a sum varies about equally, whatever its mean. z is the distance from the mean
    of earlier batches, in standard deviations, which are taken from the steps between neighbours, so that a
    loss that falls while a segment is learned does not count. The sum of log likelihood ratios of a rise by
    `SHIFT` against none, Σ (SHIFT · z − SHIFT² / 2), restarts whenever it is below 0. If it reaches
    log `RARE`, the loss surges: after one batch of z ≥ 5.34, or two of z ≥ 3.42. For independent normal
    batches of known mean and deviation, the mean number of batches between two false alarms is then at least
    `RARE` (Lorden 1971).

    After a warning, mean and deviation are learned anew. Nothing is part of a checkpoint: after a restart
    they are, too.
    """

    def __init__(self) -> None:
        self._batches = 0
        self._mean = self._variance = self._last = self._evidence = 0.0

    def add(self, loss: float) -> float | None:
        """Add the loss of a batch; if that is a surge, return its ratio to the usual loss."""
        root = math.sqrt(max(loss, 0.0))  # a user's network may define a loss below 0
        if self._batches >= HORIZON:
            z = (root - self._mean) / max(math.sqrt(self._variance), LEAST_DEVIATION)
            self._evidence = max(0.0, self._evidence + SHIFT * z - SHIFT * SHIFT / 2)
            if self._evidence >= math.log(RARE):
                usual = max(self._mean, LEAST_DEVIATION) ** 2
                self._batches = 0
                self._mean = self._variance = self._evidence = 0.0
                return loss / usual
        if self._batches:
            step = root - self._last
            self._variance += (step * step / 2 - self._variance) * max(1 / self._batches, 1 / HORIZON)
        self._batches += 1
        self._mean += (root - self._mean) * max(1 / self._batches, 1 / HORIZON)
        self._last = root
        return None
