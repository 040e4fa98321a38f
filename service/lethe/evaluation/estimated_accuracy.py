"""Accuracy estimated from confidences alone, for records without labels: NannyML's CBPE.

A prediction with a calibrated confidence of 0.8 is right with a probability of 0.8, so the mean of the
calibrated confidences estimates the accuracy (confidence-based performance estimation). Confidences are
calibrated on the labelled predictions before: the share of right ones among those of similar confidence,
older ones fading. The estimate assumes that confidence keeps its meaning. On a new subject it does not, until
labelled records of that subject have calibrated it.

Shapes: B batch, K classes.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from lethe.evaluation.prequential import FADING_FACTOR

__all__ = ["EstimatedAccuracy"]

BINS: Final = 20
"""Bins of equal width of confidence."""
PRIOR: Final = 2.0
"""How many predictions a bin's own confidence counts as: an empty bin is taken at its word."""


@dataclass(slots=True)
class EstimatedAccuracy:
    """Estimates the accuracy on the recent stream; its fields are its JSON.

    It is of all records that were predicted, labelled or not, and fades with them as the measured accuracy of
    the labelled ones does (`Prequential.fading`).

    >>> estimated = EstimatedAccuracy()
    >>> estimated.fading is None
    True
    >>> sure, right = np.full(1000, 0.99), np.arange(1000) % 2 == 0  # overconfident
    >>> for _ in range(10):
    ...     estimated.add(sure)
    ...     estimated.learn(sure, right)
    >>> round(estimated.fading, 2)
    0.5
    """

    count_M: list[float] = field(default_factory=lambda: [0.0] * BINS)
    """Labelled predictions in each bin, older ones faded."""
    right_M: list[float] = field(default_factory=lambda: [0.0] * BINS)
    """Right ones of these."""
    faded_samples: float = 0.0
    faded_right: float = 0.0

    def add(self, confidence_B: npt.NDArray[np.float64]) -> None:
        """Add the confidences of predictions, labelled or not, before `learn` is passed their labels."""
        samples = len(confidence_B)
        in_bin_M, sum_M = _binned(confidence_B, confidence_B)
        own_M = np.divide(sum_M, in_bin_M, out=np.zeros(BINS), where=in_bin_M > 0)
        calibrated_M = (np.array(self.right_M) + PRIOR * own_M) / (np.array(self.count_M) + PRIOR)
        faded = FADING_FACTOR**samples
        weight = (1 - faded) / (1 - FADING_FACTOR)
        self.faded_samples = weight + faded * self.faded_samples
        self.faded_right = weight * float(in_bin_M @ calibrated_M) / samples + faded * self.faded_right

    def learn(self, confidence_B: npt.NDArray[np.float64], right_B: npt.NDArray[np.bool_]) -> None:
        """Calibrate with labelled predictions."""
        faded = FADING_FACTOR ** len(confidence_B)
        in_bin_M, right_M = _binned(confidence_B, right_B.astype(np.float64))
        self.count_M = (faded * np.array(self.count_M) + in_bin_M).tolist()
        self.right_M = (faded * np.array(self.right_M) + right_M).tolist()

    @property
    def fading(self) -> float | None:
        """The estimate, with fading weights; None before the first prediction."""
        return self.faded_right / self.faded_samples if self.faded_samples else None


def _binned(
    confidence_B: npt.NDArray[np.float64], weight_B: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the number of predictions in each bin, and the sum of their weights."""
    bin_B = np.clip((confidence_B * BINS).astype(np.int64), 0, BINS - 1)
    sum_M = np.bincount(bin_B, weight_B, BINS).astype(np.float64)
    return np.bincount(bin_B, minlength=BINS).astype(np.float64), sum_M
