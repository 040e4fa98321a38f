"""The privacy cost of discrete Gaussian noise: ε and δ, of one release and of several.

A release is a vector of integers, each plus independent noise N_ℤ(0, σᵢ²). Where one change of the data
moves coordinate i by Δᵢ, it is ρ-zCDP with ρ = Σ Δᵢ² / 2σᵢ²: for every α > 1 the Rényi divergence between
N_ℤ(0, σ²) and the same moved by an integer Δ is at most αΔ²/2σ² (Canonne, Kamath & Steinke 2020, The
Discrete Gaussian for Differential Privacy), and divergences of independent coordinates add up. So does ρ
over releases, each of which may depend on those before (Bun & Steinke 2016, Concentrated Differential
Privacy). Here μ = √2ρ stands for ρ: of one release it is the sensitivity over σ.

Every ρ is (ε, δ) with

    δ = inf over α > 1 of exp((α − 1)(αρ − ε)) / (α − 1) · (1 − 1/α)^α

for every ε at or above 0 (the same paper, corollary 13). Any α gives a δ that holds;
which one is best is found numerically. Continuous noise has a smaller, exact δ (Balle & Wang 2018) by its
symmetry under rotation, which noise on a grid lacks; the bound is not proved for it, so it is not used.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Final

__all__ = ["composed", "delta_of", "epsilon_of", "mu_of"]

_STEPS: Final = 100
"""Of a golden-section search: each leaves 0.618 of the interval."""
_GOLDEN: Final = (math.sqrt(5) - 1) / 2


def composed(mu: float, releases: int) -> float:
    """Return the μ of ``releases`` releases of ``mu`` each."""
    return mu * math.sqrt(releases)


def delta_of(mu: float, epsilon: float) -> float:
    """Return a δ at which μ is (ε, δ)-differentially private, the smallest one that zCDP implies."""
    if mu == 0:
        return 0.0
    rho = mu * mu / 2

    def log_delta(log_order: float) -> float:  # log_order: log(α − 1); convex in it around its only minimum
        less = math.exp(log_order)
        order = 1 + less
        return less * (order * rho - epsilon) - log_order + order * (log_order - math.log1p(less))

    # Without the last factors the minimum is at α = (ε + ρ) / 2ρ; they move it by less than these bounds.
    middle = math.log(max((epsilon - rho) / (2 * rho), 1e-3 / rho, 1e-9))
    low, high = middle - 25.0, middle + 25.0
    for _ in range(_STEPS):
        span = _GOLDEN * (high - low)
        left, right = high - span, low + span
        if _capped(log_delta, left) < _capped(log_delta, right):
            high = right
        else:
            low = left
    return math.exp(min(0.0, _capped(log_delta, (low + high) / 2)))


def _capped(function: Callable[[float], float], at: float) -> float:
    try:
        return function(at)
    except OverflowError:
        return math.inf


@lru_cache(maxsize=1024)  # computed after every batch
def epsilon_of(mu: float, delta: float) -> float:
    """Return the least ε at which μ is (ε, δ)-differentially private by `delta_of`, rounded up.

    Raises ValueError for a negative μ, or a δ that is not between 0 and 1.
    """
    if mu < 0 or not 0 < delta < 1:
        raise ValueError(f"mu {mu} must be 0 or more, delta {delta} between 0 and 1")
    if delta_of(mu, 0) <= delta:
        return 0.0
    return _least(lambda epsilon: delta_of(mu, epsilon) <= delta)


def mu_of(epsilon: float, delta: float) -> float:
    """Return the largest μ that is (ε, δ)-differentially private by `delta_of`, rounded down.

    Raises ValueError unless ε is above 0 and δ between 0 and 1.
    """
    if epsilon <= 0 or not 0 < delta < 1:
        raise ValueError(f"epsilon {epsilon} must be above 0, delta {delta} between 0 and 1")
    return 1 / _least(lambda noise: delta_of(1 / noise, epsilon) <= delta)


def _least(enough: Callable[[float], bool]) -> float:
    """Return the least number that is enough, rounded up; ``enough`` is monotone."""
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
