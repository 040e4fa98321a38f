"""Tests the error and the loss of the batches for a rise of their level."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from lethe.drift.shift_statistic import BLOCK, ShiftTest, ShiftTestState

__all__ = ["Level", "LevelState", "error_level", "loss_level"]

_ERROR_VARIANCE: Final = 0.25
_LOSS_VARIANCE: Final = 4.0
"""Minimum variance of one sample: a deviation of 1/4 of log loss in a block of 64, of 1/10 in one of 512."""
_LEAST_LOSS: Final = 1e-4
"""Lower bound of losses, because a loss of 0 has no logarithm."""


@dataclass(slots=True)
class LevelState:
    """The state of a level; its fields are its JSON."""

    count: int = 0
    """Samples after the last block, too few for one."""
    total: float = 0.0
    """Sum of the number over these samples."""
    blocks: ShiftTestState = field(default_factory=ShiftTestState)


class Level:
    """The means of a number over blocks, on a scale on which their noise does not depend on the level.

    A block has at least 64 samples: small batches are combined, a larger one is a block of its own. ``scale``
    maps the number of samples and the sum over them to that scale, on which ``variance`` is the minimum
    variance of one sample. Learning lowers a level, so only a rise counts, against the newest blocks.
    """

    def __init__(
        self, scale: Callable[[int, float], float], variance: float, threshold: float, guess: bool = False
    ) -> None:
        self._scale, self._count, self._total = scale, 0, 0.0
        self.blocks = ShiftTest(threshold, variance, rises=True, keeps=False, guess=guess)
        """The test over the blocks."""

    def add(self, count: int, total: float | None) -> bool:
        """Add ``count`` samples with the sum of the number over them; return whether that completes a block.

        The samples are skipped if ``total`` is None.
        """
        if total is None:
            self._skip(count)
            return False
        self._count += count
        self._total += total
        if self._count < BLOCK:
            return False
        mean = self._scale(self._count, self._total)
        self.blocks.add(self._count, np.array([self._count * mean]), np.array([self._count * mean * mean]))
        self._count, self._total = 0, 0.0
        return True

    def restart(self, begin: int) -> None:
        """Discard everything before ``begin`` samples of the stream."""
        if self.blocks.end < begin:
            self._skip(0)
        self.blocks.restart(begin)

    def _skip(self, count: int) -> None:
        self.blocks.skip(self._count + count)
        self._count, self._total = 0, 0.0

    def state(self) -> LevelState:
        """Return the state."""
        return LevelState(self._count, self._total, self.blocks.state())

    def load_state(self, state: LevelState) -> None:
        """Restore a state exactly."""
        self._count, self._total = state.count, state.total
        self.blocks.load_state(state.blocks)


def error_level(threshold: float) -> Level:
    """Return the level of errors on the scale asin √p, whose variance hardly depends on p (Anscombe 1948)."""
    return Level(
        lambda count, wrong: math.asin(math.sqrt((wrong + 3 / 8) / (count + 3 / 4))),
        _ERROR_VARIANCE,
        threshold,
    )


def loss_level(threshold: float) -> Level:
    """Return the level of losses on a logarithmic scale, because their variance grows with the loss."""
    return Level(
        lambda count, total: math.asinh(total / count / _LEAST_LOSS), _LOSS_VARIANCE, threshold, guess=True
    )
