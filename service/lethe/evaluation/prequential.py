"""Prequential accuracy: test each sample, then train on it (Gama, Sebastião & Rodrigues 2013)."""

from dataclasses import dataclass
from typing import Final

__all__ = ["FADING_FACTOR", "Prequential"]

FADING_FACTOR: Final = 0.999
"""α: the weight of a sample is multiplied by it with each later sample; about 1 / (1 − α) samples count."""


@dataclass(slots=True)
class Prequential:
    """Test-then-train accuracy over the whole stream and over its recent past.

    The fading accuracy is S/N with S ← s + α S and N ← 1 + α N, where s is 1 for a correct prediction
    and 0 for a wrong one. The samples of one batch are predicted by the same learner, so their order has no
    meaning: each counts with the batch's share of correct predictions.

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
    withheld: int = 0
    """Samples whose number of correct predictions is withheld."""

    def add(self, samples: int, correct: int | None) -> None:
        """Add a batch; ``correct`` is None if a policy withholds it.

        Raises ValueError unless 0 ≤ correct ≤ samples and samples ≥ 1.
        """
        if samples < 1 or (correct is not None and not 0 <= correct <= samples):
            raise ValueError(f"{correct} correct of {samples} samples")
        self.samples += samples
        if correct is None:
            self.withheld += samples
            return
        self.correct += correct
        faded = FADING_FACTOR**samples
        weight = (1 - faded) / (1 - FADING_FACTOR)  # 1 + α + … + α^(samples − 1)
        self.faded_samples = weight + faded * self.faded_samples
        self.faded_correct = weight * (correct / samples) + faded * self.faded_correct

    @property
    def cumulative(self) -> float | None:
        """Correct predictions / samples, without withheld ones; None before the first."""
        known = self.samples - self.withheld
        return self.correct / known if known else None

    @property
    def fading(self) -> float | None:
        """Accuracy with fading weights; None before the first sample."""
        return self.faded_correct / self.faded_samples if self.faded_samples else None
