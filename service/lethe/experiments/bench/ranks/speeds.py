"""What the sides of the comparison have reached, turn by turn, and the ratios between them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Final

from lethe.experiments.bench.ranks.costs import RoundCosts

__all__ = ["ALONE", "APART", "SIDES", "TOGETHER", "RankSpeeds", "Reached"]

ALONE: Final = "alone"
"""One service, which learns everything."""
APART: Final = "apart"
"""As many services as ranks; each learns a part of the stream, and nothing joins what they learn."""
TOGETHER: Final = "together"
"""The ranks: they learn one model."""
SIDES: Final = (ALONE, APART, TOGETHER)


@dataclass(frozen=True, slots=True)
class Reached:
    """One side in one turn."""

    samples_per_second: float
    """Of all its processes together."""
    cpu_seconds: float
    """Processor time a sample, of all its processes together."""
    costs: RoundCosts | None = None
    """What its rounds cost, if it has rounds."""


@dataclass
class RankSpeeds:
    """What each side reached, turn by turn."""

    turns: dict[str, list[Reached]] = field(default_factory=lambda: {side: [] for side in SIDES})
    confined: bool = True
    """Whether each side had one core a rank, and no more."""

    @property
    def costs(self) -> RoundCosts:
        """What the rounds of all turns cost together."""
        first, *rest = [reached.costs for reached in self.turns[TOGETHER] if reached.costs is not None]
        return sum(rest, start=first)

    def samples_per_second(self, side: str) -> float:
        """Median over the turns."""
        return median(reached.samples_per_second for reached in self.turns[side])

    def cpu_seconds(self, side: str) -> float:
        """Median over the turns of the processor time a sample."""
        return median(reached.cpu_seconds for reached in self.turns[side])

    def ratio(self, side: str, to: str) -> float:
        """Median over the turns of the speed of ``side``, relative to that of another side."""
        return median(self._ratios(side, to, lambda reached: reached.samples_per_second))

    def quartiles(self, side: str, to: str) -> tuple[float, float]:
        """Lower and upper quartile of that ratio; with a single turn, its value twice."""
        ratios = self._ratios(side, to, lambda reached: reached.samples_per_second)
        if len(ratios) < 2:
            return ratios[0], ratios[0]
        lower, _, upper = quantiles(ratios, n=4, method="inclusive")
        return lower, upper

    def cpu_ratio(self, side: str, to: str) -> float:
        """Median over the turns of the processor time a sample, relative to that of another side."""
        return median(self._ratios(side, to, lambda reached: reached.cpu_seconds))

    def _ratios(self, side: str, to: str, of: Callable[[Reached], float]) -> Sequence[float]:
        return [of(a) / of(b) for a, b in zip(self.turns[side], self.turns[to], strict=True)]
