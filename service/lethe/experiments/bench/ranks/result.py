"""The result of the comparison as a document, from which the simulation goes on."""

from pathlib import Path
from typing import Self

from lethe.errors import InvalidFile
from lethe.experiments.bench.ranks.costs import Fit, RoundCosts, fit, solving_seconds
from lethe.experiments.bench.ranks.run import RanksBench
from lethe.experiments.bench.ranks.speeds import ALONE, APART, SIDES, TOGETHER, RankSpeeds
from lethe.files.bounded_json import read_json
from lethe.models import Document

__all__ = ["RanksResult"]


class RanksResult(Document):
    """Medians over the turns; speeds in samples per second."""

    learner: str
    ranks: int
    batch_size: int
    samples: int
    """Measured in each turn of each side."""
    turns: int
    evaluations: bool
    confined: bool
    """Whether each side had as many cores as learners, and no more."""
    alone: float
    apart: float
    together: float
    ratio: float
    """Together relative to alone."""
    ratio_to_apart: float
    quartiles: tuple[float, float]
    """Of the first ratio."""
    quartiles_to_apart: tuple[float, float]
    cpu_seconds: dict[str, float]
    """Processor time a sample, by side."""
    cpu_ratio: float
    """Processor time a sample, together relative to alone."""
    rounds: RoundCosts
    """What the rounds of all turns cost."""
    solving: float | None = None
    """Processor seconds of one solve; None in documents of older versions."""

    @classmethod
    def of(cls, bench: RanksBench, speeds: RankSpeeds) -> Self:
        """Return the result of all turns."""
        return cls(
            learner=bench.learner,
            ranks=bench.ranks,
            batch_size=bench.batch,
            samples=bench.samples,
            turns=bench.turns,
            evaluations=bench.evaluates,
            confined=speeds.confined,
            alone=speeds.samples_per_second(ALONE),
            apart=speeds.samples_per_second(APART),
            together=speeds.samples_per_second(TOGETHER),
            ratio=speeds.ratio(TOGETHER, ALONE),
            ratio_to_apart=speeds.ratio(TOGETHER, APART),
            quartiles=speeds.quartiles(TOGETHER, ALONE),
            quartiles_to_apart=speeds.quartiles(TOGETHER, APART),
            cpu_seconds={side: speeds.cpu_seconds(side) for side in SIDES},
            cpu_ratio=speeds.cpu_ratio(TOGETHER, ALONE),
            rounds=speeds.costs,
            solving=solving_seconds(bench.learner, bench.batch),
        )

    @classmethod
    def read(cls, file: Path) -> Self:
        """Return the result that ``lethe bench ranks --json`` printed. Raises InvalidFile."""
        try:
            found = read_json(file.read_text(encoding="utf-8"))
            measured = {name: value for name, value in found.items() if name != "simulated"}
            return cls.model_validate(measured, strict=False)
        except (OSError, ValueError, AttributeError) as error:  # pydantic's is a ValueError
            raise InvalidFile(f"--measured: {file} is no result of lethe bench ranks --json") from error

    def speed(self, side: str) -> float:
        """Return the speed of a side."""
        return {ALONE: self.alone, APART: self.apart, TOGETHER: self.together}[side]

    def fit(self) -> Fit:
        """Return the parts of a round's cost."""
        return fit(self.learner, self.batch_size, self.ranks, self.rounds, self.solving)
