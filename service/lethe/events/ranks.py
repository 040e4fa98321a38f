"""Events about several ranks that learn one model."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["RankRound", "RoundLearned"]


@dataclass(frozen=True, slots=True)
class RankRound:
    """One rank's part of a round, with what it did since the round before."""

    samples: int
    """Samples it learned."""
    lag: int
    """Records in its partitions that are not learned yet."""
    learning_seconds: float
    """Seconds in which it predicted and learned its batch, without those in collective operations."""
    collective_seconds: float
    """Seconds in which it exchanged tensors with the others, or waited for them to."""
    waited_for_seconds: float
    """Seconds in which it was the only one that all others waited for."""


@dataclass(frozen=True, slots=True)
class RoundLearned:
    """Every rank has learned its batch of a round."""

    seconds: float
    """From the round's start."""
    ranks: Sequence[RankRound]
    """By rank."""
    collective_bytes: int
    """Bytes of the tensors that each rank has exchanged with the others since the round before."""
