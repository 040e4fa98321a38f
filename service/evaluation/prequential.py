"""Prequential accuracy: each sample is a test before it is learned (Gama, Sebastião & Rodrigues 2013)."""

from dataclasses import dataclass
from typing import Final

__all__ = ["FADING_FACTOR", "Prequential"]

FADING_FACTOR: Final = 0.999
"""α: a sample's weight falls by it with each later sample, so about 1 / (1 − α) samples count."""


@dataclass(slots=True)
class Prequential:
    """Test-then-train accuracy over the whole stream and over its recent past.

    The fading accuracy is S/N with S ← s + α S and N ← 1 + α N, where s is 1 for a right answer
    and 0 for a wrong one. The samples of one batch are predicted by the same learner, so their
    order says nothing: each counts with the batch's share of right answers.

    >>> accuracy = Prequential()
    >>> accuracy.add(samples=2000, correct=1000)
    >>> accuracy.add(samples=2000, correct=2000)
    >>> accuracy.cumulative, round(accuracy.fading, 2)
    (0.75, 0.94)
    """

    samples: int = 0
    correct: int = 0
    faded_samples: float = 0.0
    """N."""
    faded_correct: float = 0.0
    """S."""

    def add(self, samples: int, correct: int) -> None:
        """Count a batch; raises ValueError unless 0 ≤ correct ≤ samples and samples ≥ 1."""
        if not (samples >= 1 and 0 <= correct <= samples):
            raise ValueError(f"{correct} correct of {samples} samples")
        self.samples += samples
        self.correct += correct
        faded = FADING_FACTOR**samples
        weight = (1 - faded) / (1 - FADING_FACTOR)  # 1 + α + … + α^(samples − 1)
        self.faded_samples = weight + faded * self.faded_samples
        self.faded_correct = weight * (correct / samples) + faded * self.faded_correct

    @property
    def cumulative(self) -> float | None:
        """Right answers over all samples so far; None before the first."""
        return self.correct / self.samples if self.samples else None

    @property
    def fading(self) -> float | None:
        """The same, where a sample weighs the less the longer ago it was; None before the first."""
        return self.faded_correct / self.faded_samples if self.samples else None
