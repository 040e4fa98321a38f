"""What is usual: of the features since the last boundary, and of the recent losses.

Both give a surprise that is about 1 or less, or about 0 or less, as long as nothing changes,
whatever the size of the batches.
"""

import math
from dataclasses import dataclass, field
from typing import Final

from service.drift.features import FeatureSums

__all__ = ["FeatureReference", "LevelReference"]

_LEAST_DEVIATION: Final = 0.02
"""A feature that hardly ever moves, like the brightness of a corner, is taken to move this much."""
_MEMORY: Final = 5000.0
"""Samples over which a level is averaged: it follows what learning improves."""


@dataclass(slots=True)
class FeatureReference:
    """Mean and variance of every feature over the samples since the last boundary."""

    count: int = 0
    sums: list[float] = field(default_factory=list)
    squares: list[float] = field(default_factory=list)

    def surprise(self, batch: FeatureSums) -> float:
        """Return how far the batch's means are from the usual ones, in squares of what chance allows.

        That is the mean over the features of (m − μ)² / (σ² (1/B + 1/n)): Hotelling's T² without
        correlations, over the number of features. For samples like the earlier ones its
        expectation is 1. Raises ValueError before the first samples.
        """
        if not self.count:
            raise ValueError("nothing is usual yet")
        spread = 1 / batch.count + 1 / self.count
        terms = []
        for total, square, new in zip(self.sums, self.squares, batch.sums, strict=True):
            mean = total / self.count
            variance = max(square / self.count - mean * mean, _LEAST_DEVIATION**2)
            terms.append((new / batch.count - mean) ** 2 / (variance * spread))
        return math.fsum(terms) / len(terms)

    def merge(self, other: "FeatureReference") -> None:
        """Count what is usual elsewhere among the usual."""
        self.add(FeatureSums(other.count, tuple(other.sums), tuple(other.squares)))

    def add(self, batch: FeatureSums) -> None:
        """Count the batch among the usual."""
        self.count += batch.count
        self.sums = [a + b for a, b in zip(self.sums or [0.0] * len(batch.sums), batch.sums, strict=True)]
        squares = self.squares or [0.0] * len(batch.squares)
        self.squares = [a + b for a, b in zip(squares, batch.squares, strict=True)]


@dataclass(slots=True)
class LevelReference:
    """Mean and variance of one number a batch, the recent past counting most."""

    count: int = 0
    mean: float = 0.0
    variance: float = 0.0

    def surprise(self, value: float, least: float) -> float:
        """Return by how many standard deviations, of at least ``least``, the value is above the mean."""
        return (value - self.mean) / max(math.sqrt(self.variance), least)

    def add(self, value: float, samples: int) -> None:
        """Take in a batch's value."""
        self.count += samples
        weight = samples / min(_MEMORY, self.count)  # a plain mean at first
        change = value - self.mean
        self.mean += min(1.0, weight) * change
        self.variance = (1 - min(1.0, weight)) * (self.variance + min(1.0, weight) * change * change)
