"""The reference of a regime: mean and variance of its features."""

import math
from dataclasses import dataclass, field
from typing import Final

__all__ = ["LEAST_DEVIATION", "FeatureReference"]

LEAST_DEVIATION: Final = 0.02
"""Minimum standard deviation of a feature, for those that hardly vary, like the brightness of a corner."""


@dataclass(slots=True)
class FeatureReference:
    """Sums of each feature and of its square over ``count`` samples."""

    count: int = 0
    sums: list[float] = field(default_factory=list)
    squares: list[float] = field(default_factory=list)

    def surprise(self, other: "FeatureReference") -> float:
        """Return the distance of the means of ``other`` from these, relative to chance.

        It is the mean over the features of (m − μ)² / (σ² (1/B + 1/n)), for B other samples and n of these:
        Hotelling's T² without correlations, divided by the number of features. Its expectation is 1 for
        samples of the same distribution. Raises ValueError before the first samples.
        """
        if not self.count:
            raise ValueError("the reference has no samples yet")
        spread = 1 / other.count + 1 / self.count
        terms = []
        for total, square, new in zip(self.sums, self.squares, other.sums, strict=True):
            mean = total / self.count
            variance = max(square / self.count - mean * mean, LEAST_DEVIATION**2)
            terms.append((new / other.count - mean) ** 2 / (variance * spread))
        return math.fsum(terms) / len(terms)

    def add(self, other: "FeatureReference") -> None:
        """Add the samples of ``other``."""
        self.count += other.count
        self.sums = [a + b for a, b in zip(self.sums or [0.0] * len(other.sums), other.sums, strict=True)]
        squares = self.squares or [0.0] * len(other.squares)
        self.squares = [a + b for a, b in zip(squares, other.squares, strict=True)]
