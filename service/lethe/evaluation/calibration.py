"""Expected calibration error: how far confidence is from accuracy (Guo et al. 2017).

Shapes: B batch, K classes, M bins.
"""

from typing import Final

import torch
from torch import Tensor

__all__ = ["BINS", "Calibration"]

BINS: Final = 15
"""M: the number of bins of equal width, as in Guo et al."""


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
        self._excess_M = torch.zeros(BINS, dtype=torch.float64)

    def add(self, p_BK: Tensor, correct_B: Tensor) -> None:
        """Add class probabilities, and whether the most probable class was correct."""
        # amax, because max() starts every thread even for a few rows, which costs more than all the rest
        # diverged weights predict NaN: the next batch raises, not the calibration
        confidence_B = p_BK.amax(dim=1).double().nan_to_num(0.0).clamp(0, 1)
        bin_B = (confidence_B * BINS).ceil().long().sub(1).clamp_(0, BINS - 1)
        # n_m (acc_m − conf_m) is a sum over the bin's predictions, so no bin needs its own count
        self._excess_M += torch.bincount(bin_B, correct_B.double() - confidence_B, BINS)
        self._count += len(p_BK)

    @property
    def error(self) -> float:
        """ECE, from 0 to 1. Raises ValueError before the first prediction."""
        if not self._count:
            raise ValueError("nothing was predicted yet")
        return float(self._excess_M.abs().sum()) / self._count
