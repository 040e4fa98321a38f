"""Two membership inference attacks: a loss threshold, and a likelihood ratio with shadow learners.

Shapes: S shadows, N samples.
"""

import numpy as np
import numpy.typing as npt

from lethe.experiments.attack.roc import Scores

__all__ = ["Confidences", "Members", "likelihood_ratio", "logit", "loss_threshold"]

Confidences = npt.NDArray[np.float64]
Members = npt.NDArray[np.bool_]

_LEAST = 1e-45  # below the smallest positive float32; replaces a probability of 0


def logit(p_NK: npt.NDArray[np.float64], y_N: npt.NDArray[np.int64]) -> Confidences:
    """Return log p / (1 − p) of each sample's own class, shape [N]; 1 − p is computed as a sum."""
    own = np.arange(len(y_N)), y_N
    others_NK = p_NK.copy()
    others_NK[own] = 0
    log_odds: Confidences = np.log(np.maximum(p_NK[own], _LEAST) / np.maximum(others_NK.sum(1), _LEAST))
    return log_odds


def loss_threshold(logit_N: Confidences) -> Scores:
    """Return scores of the loss threshold attack (Yeom et al. 2018), shape [N]; high means "learned".

    The logit is a decreasing function of the cross entropy, so it orders samples by their loss.
    """
    return logit_N


def likelihood_ratio(logit_N: Confidences, logit_SN: Confidences, member_SN: Members) -> Scores:
    """Return the log-likelihood ratio of each sample, shape [N], from a target's and the shadows' logits.

    For each sample, the logits of the shadows that learned it and of those that did not are modelled as
    normal, with means of their own and, since shadows are few, variances shared by all samples (Carlini et
    al. 2022, Membership Inference Attacks From First Principles). Each sample must be learned by half of
    the shadows: a mean over fewer would have a larger error, which would itself reveal membership.
    """
    mean_in, variance_in = _normal(logit_SN, member_SN)
    mean_out, variance_out = _normal(logit_SN, ~member_SN)
    near_in = (logit_N - mean_in) ** 2 / variance_in + np.log(variance_in)
    near_out = (logit_N - mean_out) ** 2 / variance_out + np.log(variance_out)
    scores: Scores = (near_out - near_in) / 2
    return scores


def _normal(logit_SN: Confidences, chosen_SN: Members) -> tuple[Confidences, float]:
    """Return each sample's mean over the chosen shadows, shape [N], and the variance around the means."""
    count_N = chosen_SN.sum(0)
    mean_N = np.where(chosen_SN, logit_SN, 0).sum(0) / count_N
    squares = np.where(chosen_SN, logit_SN - mean_N, 0) ** 2
    freedom = max(1, int((count_N - 1).sum()))
    return mean_N, max(float(squares.sum() / freedom), 1e-12)
