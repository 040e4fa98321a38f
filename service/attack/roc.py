"""How well scores tell members from others: pure functions of two lists of numbers."""

import numpy as np
import numpy.typing as npt

__all__ = ["Scores", "auc", "tpr_at"]

Scores = npt.NDArray[np.float64]


def auc(members: Scores, others: Scores) -> float:
    """Return the chance that a member scores above another, ties counting half; 0.5 tells nothing."""
    both = np.concatenate([members, others])
    values, places = np.unique(both, return_inverse=True)
    counts = np.bincount(places, minlength=len(values))
    ranks = np.cumsum(counts) - (counts - 1) / 2  # of equal scores, the mean
    excess = ranks[places[: len(members)]].sum() - len(members) * (len(members) + 1) / 2
    return float(excess / (len(members) * len(others)))


def tpr_at(fpr: float, members: Scores, others: Scores) -> float:
    """Return the share of members that is found where at most a share ``fpr`` of the others is, too."""
    allowed = int(fpr * len(others))
    threshold = np.sort(others)[::-1][allowed] if allowed < len(others) else -np.inf
    return float((members > threshold).mean())
