"""The scoreboard: learners × scenarios, over several seeds, between the worst and the best that is known.

Two references frame every scenario: ``finetune``, which does nothing against forgetting, and
``joint``, the same learner on the same samples in random order.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from producers.datasets import default_root
from producers.scenario import Scenario
from producers.sources import fetch
from service.bench.rehearsal import Rehearsal, rehearse
from service.bench.scores import Score

__all__ = ["JOINT", "Bench", "bench_learners"]

REFERENCE: Final = "finetune"
JOINT: Final = "joint"


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
    known: Collection[tuple[str, str, int]] = ()
    """Scenario, learner and seed of scores that are there already, and not measured again."""
    root: Path = field(default_factory=default_root)

    @property
    def steps(self) -> int:
        """How many scores there will be."""
        return sum(1 for _ in self.wanted())

    def wanted(self) -> Iterator[tuple[Scenario, str, int]]:
        """Yield scenario, learner and seed of each score that there will be, in order."""
        for scenario in self.scenarios:
            for seed in range(self.seeds):
                for learner in (JOINT, *self.learners):
                    if (scenario.name, learner, seed) not in self.known:
                        yield scenario, learner, seed


def bench_learners(bench: Bench) -> Iterator[Score]:
    """Yield the score of every learner, and of joint, on every scenario with every seed.

    Raises LetheError when a learner or a data set cannot be had.
    """
    for scenario in bench.scenarios:
        for dataset in {segment.dataset for segment in scenario.segments}:
            fetch(dataset, bench.root)
    for scenario, learner, seed in bench.wanted():
        if learner == JOINT:
            reference = Rehearsal(REFERENCE, scenario, seed, bench.samples, shuffled=True, root=bench.root)
            yield Score.of(reference, JOINT, rehearse(reference), None)
        else:
            yield _score(bench, scenario, learner, seed)


def _score(bench: Bench, scenario: Scenario, learner: str, seed: int) -> Score:
    rehearsal = Rehearsal(learner, scenario, seed, bench.samples, oracle=bench.oracle, root=bench.root)
    joint = None
    if bench.own_joint:
        shuffled = Rehearsal(learner, scenario, seed, bench.samples, shuffled=True, root=bench.root)
        joint = rehearse(shuffled).accuracy
    return Score.of(rehearsal, learner, rehearse(rehearsal), joint)
