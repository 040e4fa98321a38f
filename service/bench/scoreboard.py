"""The scoreboard: learners × scenarios, over several seeds, between the worst and the best that is known.

Two references frame every scenario: ``finetune``, which does nothing against forgetting, and
``joint``, the same learner on the same samples in random order.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import mean, stdev
from typing import Final

from producers.datasets import default_root
from producers.scenario import Scenario
from producers.sources import fetch
from service.bench.rehearsal import Rehearsal, Rehearsed, rehearse

__all__ = ["JOINT", "MEASURES", "Bench", "Score", "Summary", "bench_learners", "summarise", "write_csv"]

REFERENCE: Final = "finetune"
JOINT: Final = "joint"


@dataclass(frozen=True, slots=True)
class Score:
    """One learner on one scenario with one seed; a measure that is not defined there is None."""

    scenario: str
    learner: str
    seed: int
    retains: str
    acc: float
    bwt: float | None
    wc_acc: float | None
    anytime: float | None
    below_joint: float | None
    """By how much ACC is below that of the same learner on the shuffled stream; None if not asked for."""
    samples_per_second: float
    state_bytes: int
    boundaries: int
    """Switches of the stream."""
    found: int
    false_alarms: int

    @classmethod
    def of(cls, rehearsal: Rehearsal, name: str, came: Rehearsed, joint: float | None) -> "Score":
        """Return the score of a rehearsal; ``joint`` is the accuracy on the shuffled stream."""
        run = came.run
        return cls(
            scenario=rehearsal.scenario.name,
            learner=name,
            seed=rehearsal.seed,
            retains=run.retains,
            acc=came.accuracy,
            bwt=run.bwt,
            wc_acc=run.wc_acc,
            anytime=run.anytime_accuracy,
            below_joint=None if joint is None else joint - came.accuracy,
            samples_per_second=came.samples_per_second,
            state_bytes=came.state_bytes,
            boundaries=len(run.boundaries.delays),
            found=len(run.boundaries.delays) - run.boundaries.missed,
            false_alarms=run.boundaries.false_alarms,
        )


MEASURES: Final = tuple(
    f.name for f in fields(Score) if f.name not in {"scenario", "learner", "seed", "retains"}
)
"""The fields of a score that are numbers."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean and standard deviation over the seeds; the deviation is None for a single one."""

    scenario: str
    learner: str
    retains: str
    seeds: int
    measures: dict[str, tuple[float, float | None] | None]


@dataclass(frozen=True)
class Bench:
    """What is compared."""

    scenarios: Sequence[Scenario]
    learners: Sequence[str]
    seeds: int = 3
    samples: int | None = None
    """At most so many of each segment."""
    oracle: bool = False
    own_joint: bool = False
    """Measure every learner on the shuffled stream too, not only the reference."""
    root: Path = field(default_factory=default_root)

    @property
    def steps(self) -> int:
        """How many scores there will be."""
        return len(self.scenarios) * self.seeds * (len(self.learners) + 1)


def bench_learners(bench: Bench) -> Iterator[Score]:
    """Yield the score of every learner, and of joint, on every scenario with every seed.

    Raises LetheError when a learner or a data set cannot be had.
    """
    for scenario in bench.scenarios:
        for dataset in {segment.dataset for segment in scenario.segments}:
            fetch(dataset, bench.root)
        for seed in range(bench.seeds):
            reference = Rehearsal(
                REFERENCE, scenario, seed, bench.samples, shuffled=True, oracle=bench.oracle, root=bench.root
            )
            yield Score.of(reference, JOINT, rehearse(reference), None)
            for learner in bench.learners:
                yield _score(bench, scenario, learner, seed)


def _score(bench: Bench, scenario: Scenario, learner: str, seed: int) -> Score:
    rehearsal = Rehearsal(learner, scenario, seed, bench.samples, oracle=bench.oracle, root=bench.root)
    joint = None
    if bench.own_joint:
        shuffled = Rehearsal(learner, scenario, seed, bench.samples, shuffled=True, root=bench.root)
        joint = rehearse(shuffled).accuracy
    return Score.of(rehearsal, learner, rehearse(rehearsal), joint)


def summarise(scores: Sequence[Score]) -> list[Summary]:
    """Return one summary for each learner on each scenario, in the order of their first scores."""
    groups: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.scenario, score.learner), []).append(score)
    return [
        Summary(
            scenario=scenario,
            learner=learner,
            retains=group[0].retains,
            seeds=len(group),
            measures={name: _spread([getattr(score, name) for score in group]) for name in MEASURES},
        )
        for (scenario, learner), group in groups.items()
    ]


def _spread(values: Sequence[float | None]) -> tuple[float, float | None] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return mean(known), stdev(known) if len(known) > 1 else None


def write_csv(scores: Sequence[Score], path: Path) -> None:
    """Write one line a score."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Score)])
        writer.writeheader()
        writer.writerows(asdict(score) for score in scores)
