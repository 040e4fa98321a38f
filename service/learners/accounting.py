"""What Gaussian noise costs: exact formulas for ε and δ, of one release and of several.

A release of ``f + N(0, s²)``, where one change of the data moves f by at most Δ (its sensitivity,
in the Euclidean norm), is μ-Gaussian differentially private with μ = Δ / s; k of them, each of
which may depend on those before, are so with √k · μ; and every μ is (ε, δ) with

    δ = Φ(μ/2 − ε/μ) − e^ε · Φ(−μ/2 − ε/μ)

for every ε at or above 0, and with no smaller δ. Balle & Wang 2018, Improving the Gaussian
Mechanism for Differential Privacy; Dong, Roth & Su 2022, Gaussian Differential Privacy.
"""

import math
from collections.abc import Callable
from functools import lru_cache

from scipy.special import log_ndtr

__all__ = ["composed", "delta_of", "epsilon_of", "mu_of"]


def composed(mu: float, releases: int) -> float:
    """Return the μ of ``releases`` releases of ``mu`` each."""
    return mu * math.sqrt(releases)


def delta_of(mu: float, epsilon: float) -> float:
    """Return the least δ at which μ is (ε, δ)-differentially private."""
    if mu == 0:
        return 0.0
    far = math.exp(log_ndtr(mu / 2 - epsilon / mu))
    return max(0.0, far - math.exp(epsilon + log_ndtr(-mu / 2 - epsilon / mu)))


@lru_cache(maxsize=1024)  # asked for after every batch
def epsilon_of(mu: float, delta: float) -> float:
    """Return the least ε at which μ is (ε, δ)-differentially private, rounded up.

    Raises ValueError for a negative μ, or a δ that is not between 0 and 1.
    """
    if mu < 0 or not 0 < delta < 1:
        raise ValueError(f"mu {mu} must be 0 or more, delta {delta} between 0 and 1")
    if delta_of(mu, 0) <= delta:
        return 0.0
    return _least(lambda epsilon: delta_of(mu, epsilon) <= delta)


def mu_of(epsilon: float, delta: float) -> float:
    """Return the largest μ that is still (ε, δ)-differentially private, rounded down.

    Raises ValueError unless ε is above 0 and δ between 0 and 1.
    """
    if epsilon <= 0 or not 0 < delta < 1:
        raise ValueError(f"epsilon {epsilon} must be above 0, delta {delta} between 0 and 1")
    return 1 / _least(lambda noise: delta_of(1 / noise, epsilon) <= delta)


def _least(enough: Callable[[float], bool]) -> float:
    """Return the least number that is enough, where every larger one is, too, rounded up."""
    above = 1.0
    while not enough(above):
        above *= 2
    below = above / 2
    while enough(below):
        above, below = below, below / 2
    while (middle := (below + above) / 2) not in {below, above}:
        if enough(middle):
            above = middle
        else:
            below = middle
    return above
