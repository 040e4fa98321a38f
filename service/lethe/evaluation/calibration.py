"""Expected calibration error: how far confidence is from accuracy (Guo et al. 2017).

Shapes: B batch, K classes, M bins.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

__all__ = ["BINS", "Calibration", "calibration_error", "excess"]

BINS: Final = 15
"""M: the number of bins of equal width, as in Guo et al."""
UNITS: Final = 1 << 40
"""A confidence of 1: finer than a float32 of more than 2⁻¹⁶, and 8 million images can be added up."""


class Calibration:
    """The expected calibration error over batches of predictions.

    The confidence of a prediction is the probability of the predicted class. ECE = Σ_m (n_m / n)
    |acc_m − conf_m| over bins ((m − 1)/M, m/M] of confidence, where acc_m is the share of correct
    predictions and conf_m the mean confidence; 0 is perfect. Guo, Pleiss, Sun & Weinberger 2017, On
    Calibration of Modern Neural Networks. It is biased upwards on few images: compare it only between
    probes of equal size.

    >>> calibration = Calibration()
    >>> calibration.add(torch.tensor([[0.75, 0.25], [0.75, 0.25]]), torch.tensor([True, False]))
    >>> calibration.error
    0.25
    """

    def __init__(self) -> None:
        self._count = 0
        self._excess_M = torch.zeros(BINS, dtype=torch.int64)

    def add(self, p_BK: Tensor, correct_B: Tensor) -> None:
        """Add class probabilities, and whether the most probable class was correct."""
        self._excess_M += excess(p_BK, correct_B)
        self._count += len(p_BK)

    @property
    def error(self) -> float:
        """ECE, from 0 to 1. Raises ValueError before the first prediction."""
        return calibration_error(self._excess_M.tolist(), self._count)


def excess(p_BK: Tensor, correct_B: Tensor) -> Tensor:
    """Return n_m (acc_m − conf_m) of each bin, in units of 2⁻⁴⁰, int64 of shape [M].

    They are whole numbers, so that those of several parts of a probe have the same sum in any order.
    """
    # amax, because max() starts every thread even for a few rows, which costs more than all the rest
    # diverged weights predict NaN: the next batch raises, not the calibration
    confidence_B = p_BK.amax(dim=1).double().nan_to_num(0.0).clamp(0, 1)
    bin_B = (confidence_B * BINS).ceil().long().sub(1).clamp_(0, BINS - 1)
    over_B = correct_B.long() * UNITS - (confidence_B * UNITS).round().long()
    # n_m (acc_m − conf_m) is a sum over the bin's predictions, so no bin needs its own count
    return torch.zeros(BINS, dtype=torch.int64, device=p_BK.device).index_add_(0, bin_B, over_B)


def calibration_error(excess_M: Sequence[int], images: int) -> float:
    """Return the ECE of so many predictions; raises ValueError if there are none."""
    if not images:
        raise ValueError("nothing was predicted yet")
    return sum(map(abs, excess_M)) / (images * UNITS)
