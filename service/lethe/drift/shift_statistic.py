"""A change-point test for the mean of a stream of blocks.

Shapes: W + 2 ends of the newest blocks; S candidate splits; F features; X = 2 + 3 F.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from lethe.drift.features import Numbers
from lethe.drift.reference import FeatureReference

__all__ = ["BLOCK", "SETTLED", "WINDOW", "ShiftTest", "ShiftTestState", "Split"]

BLOCK: Final = 64
"""Samples in a block of images; a block of error or loss may have more."""
SETTLED: Final = 512
"""Minimum number of samples before a split."""
WINDOW: Final = 16
"""W: the number of newest blocks between which the stream may be split."""

_COUNT, _STEPS_KNOWN, _SUMS = 0, 1, 2  # columns of a row


@dataclass(frozen=True, slots=True)
class Split:
    """Where the mean shifted, in samples of the stream: within the two blocks next to the split."""

    before: int
    """Blocks that end up to here are before the shift."""
    after: int
    """Blocks that begin from here on are after it."""


@dataclass(slots=True)
class ShiftTestState:
    """The state of a test; its fields are its JSON."""

    end: int = 0
    """Samples of the stream up to the end of the newest block."""
    rows: list[list[float]] = field(default_factory=list)
    """Sums since the last shift, at the end of each block of the window and of the two blocks before it."""


class ShiftTest:
    """Compares the samples before and after every split of the newest blocks.

    This is the change-point model of Hawkins, Qiu & Kang (2003, The Changepoint Model for Statistical
    Process Control) and, for several features, of Zamba & Hawkins (2006). There is no fixed baseline: only
    samples before the candidate split serve as the reference, so a shift never contaminates it.

    For a split with n₁ samples before it and n₂ after it, the statistic is the mean over the features of
    (m₂ − m₁)² / (φ σ² (1/n₁ + 1/n₂)): Hotelling's T² without correlations. σ² ≥ ``least`` is the variance
    within both sides. φ ≥ 1 is the dispersion of blocks beyond chance, estimated from differences of
    neighbours (von Neumann 1941) except those next to the split: correlated samples carry less information.
    Without a shift the statistic is about 1. A shift is found if it exceeds ``threshold`` plus one for each
    64 samples after the split, so that a mean that is off by less than σ/8 never counts as a shift.

    With ``rises``, only an increase of the mean of a single feature counts, and only upward steps. Without
    ``keeps``, blocks that left the window are discarded. If ``least`` is only a ``guess``, φ is estimated
    from all k steps, and the statistic T is replaced by k log(1 + T/k), the likelihood ratio for an unknown
    variance. Time and memory per block are constant.
    """

    def __init__(
        self, threshold: float, least: float, rises: bool = False, keeps: bool = True, guess: bool = False
    ) -> None:
        self._threshold, self._least, self._guess = threshold, least, guess
        self._rises, self._keeps = rises, keeps
        self._end = 0
        self._rows_WX: Numbers = np.zeros((1, _SUMS))

    @property
    def end(self) -> int:
        """Samples of the stream up to the end of the newest block."""
        return self._end

    @property
    def count(self) -> int:
        """Samples since the last shift."""
        return int(self._rows_WX[-1, _COUNT])

    def add(self, count: int, sums_F: Numbers, squares_F: Numbers) -> None:
        """Add a block of ``count`` samples; another number of features restarts the test."""
        if self._rows_WX.shape[1] != _SUMS + 3 * len(sums_F):
            self._rows_WX = np.zeros((1, _SUMS + 3 * len(sums_F)))
        rows_WX, features = self._rows_WX, len(sums_F)
        row_X = np.empty(rows_WX.shape[1])
        row_X[_COUNT], row_X[_STEPS_KNOWN] = count, len(rows_WX) > 1
        row_X[_SUMS : _SUMS + features], row_X[_SUMS + features : _SUMS + 2 * features] = sums_F, squares_F
        row_X[_SUMS + 2 * features :] = 0.0
        if len(rows_WX) > 1:
            last_X = rows_WX[-1] - rows_WX[-2]
            gap_F = sums_F / count - last_X[_SUMS : _SUMS + features] / last_X[_COUNT]
            if self._rises and not self._guess and gap_F[0] < 0:
                row_X[_STEPS_KNOWN] = 0
            else:
                row_X[_SUMS + 2 * features :] = gap_F * gap_F / (1 / count + 1 / last_X[_COUNT])
        row_X += rows_WX[-1]
        self._rows_WX = np.concatenate((rows_WX[-WINDOW - 1 :], row_X[np.newaxis]))
        self._end += count

    def skip(self, count: int) -> None:
        """Skip ``count`` samples, which belong to no block."""
        self._end += count

    def find(self) -> Split | None:
        """Return where the mean has shifted; None without a shift."""
        begin = int(len(self._rows_WX) > WINDOW + 1)  # the row before the window is needed, but no split
        rows_WX = self._rows_WX if self._keeps else self._rows_WX - self._rows_WX[begin]
        first = max(begin, int(rows_WX[:, _COUNT].searchsorted(SETTLED)))
        if first >= len(rows_WX) - 1:
            return None
        features = self._features
        sums_WF = rows_WX[:, _SUMS : _SUMS + features]
        squares_F = rows_WX[-1, _SUMS + features : _SUMS + 2 * features]
        n = rows_WX[-1, _COUNT]
        n1_S1 = rows_WX[first:-1, :1]
        n2_S1 = n - n1_S1
        m1_SF = sums_WF[first:-1] / n1_S1
        m2_SF = (sums_WF[-1] - sums_WF[first:-1]) / n2_S1
        gap_SF = m2_SF - m1_SF
        if self._rises:
            gap_SF = gap_SF.clip(0)
        variance_SF = (squares_F - n1_S1 * m1_SF * m1_SF - n2_S1 * m2_SF * m2_SF) / n
        variance_SF = np.maximum(variance_SF, self._least)
        shift_S = (gap_SF * gap_SF / variance_SF).mean(1) / (1 / n1_S1 + 1 / n2_S1)[:, 0]
        bound_S = self._threshold + n2_S1[:, 0] / BLOCK
        if (shift_S <= bound_S).all():
            return None
        dispersion_S, known_S = _dispersion(rows_WX, first, variance_SF)
        shift_S /= dispersion_S
        if self._guess:
            shift_S = known_S * np.log1p(shift_S / np.maximum(known_S, 1.0))
        excess_S = shift_S - bound_S
        best = int(excess_S.argmax())
        if excess_S[best] <= 0:
            return None
        ends = self._ends()
        return Split(ends[max(0, first + best - 1)], ends[first + best + 1])

    def before(self, end: int) -> FeatureReference:
        """Return the sums since the last shift over the blocks that end up to ``end``."""
        row_X, features = self._rows_WX[max(0, sum(at <= end for at in self._ends()) - 1)], self._features
        return FeatureReference(
            int(row_X[_COUNT]),
            row_X[_SUMS : _SUMS + features].tolist(),
            row_X[_SUMS + features : _SUMS + 2 * features].tolist(),
        )

    def restart(self, begin: int) -> None:
        """Discard the blocks that begin before ``begin`` samples of the stream."""
        first = sum(at < begin for at in self._ends())
        rows_WX = self._rows_WX[min(first, len(self._rows_WX) - 1) :]
        rows_WX = rows_WX - rows_WX[0]
        if len(rows_WX) > 1:  # its first step starts from a discarded block
            steps = slice(_SUMS + 2 * self._features, None)
            rows_WX[1:, steps] -= rows_WX[1, steps]
            rows_WX[1:, _STEPS_KNOWN] -= rows_WX[1, _STEPS_KNOWN]
        self._rows_WX = rows_WX

    def state(self) -> ShiftTestState:
        """Return the state."""
        return ShiftTestState(self._end, self._rows_WX.tolist())

    def load_state(self, state: ShiftTestState) -> None:
        """Restore a state exactly."""
        self._end = state.end
        self._rows_WX = np.array(state.rows or [[0.0] * _SUMS], np.float64)

    @property
    def _features(self) -> int:
        """F; 0 before the first block."""
        return int(self._rows_WX.shape[1] - _SUMS) // 3

    def _ends(self) -> list[int]:
        """Return the samples of the stream up to each row."""
        return [self._end - int(left) for left in self._rows_WX[-1, _COUNT] - self._rows_WX[:, _COUNT]]


def _dispersion(rows_WX: Numbers, first: int, variance_SF: Numbers) -> tuple[Numbers, Numbers]:
    """Return φ of each split from ``first`` on, and the number of steps behind it.

    The steps into, between and out of the two blocks next to the split are excluded.
    """
    splits_S = np.arange(first, len(rows_WX) - 1)
    inner_SX = rows_WX[np.minimum(splits_S + 2, len(rows_WX) - 1)] - rows_WX[np.maximum(splits_S - 1, 0)]
    outer_SX = rows_WX[-1] - inner_SX
    known_S = outer_SX[:, _STEPS_KNOWN]
    steps_SF = outer_SX[:, _SUMS + 2 * variance_SF.shape[1] :]
    return np.maximum((steps_SF / variance_SF).mean(1) / np.maximum(known_S, 1.0), 1.0), known_S
