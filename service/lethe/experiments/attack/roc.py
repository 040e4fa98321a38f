"""Metrics of a membership attack, as functions of the scores of members and of others."""

import numpy as np
import numpy.typing as npt

__all__ = ["Scores", "auc", "tpr_at"]

Scores = npt.NDArray[np.float64]


def auc(members: Scores, others: Scores) -> float:
    """Return the area under the ROC curve: the probability that a member scores above another, ties half."""
    both = np.concatenate([members, others])
    values, places = np.unique(both, return_inverse=True)
    counts = np.bincount(places, minlength=len(values))
    ranks = np.cumsum(counts) - (counts - 1) / 2  # of equal scores, the mean
    excess = ranks[places[: len(members)]].sum() - len(members) * (len(members) + 1) / 2
    return float(excess / (len(members) * len(others)))


def tpr_at(fpr: float, members: Scores, others: Scores) -> float:
    """Return the true positive rate at a false positive rate of at most ``fpr``."""
    allowed = int(fpr * len(others))
    threshold = np.sort(others)[::-1][allowed] if allowed < len(others) else -np.inf
    return float((members > threshold).mean())
