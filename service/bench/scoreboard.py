"""The scoreboard: learners × scenarios, over several seeds, between the worst and the best that is known.

Two references frame every scenario: ``finetune``, which does nothing against forgetting, and
``joint``, its network on the same samples in random order.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from producers.datasets import default_root
from producers.scenario import Scenario
from producers.sources import fetch
from service.bench.rehearsal import EVERY, Rehearsal, rehearse
from service.bench.scores import JOINT, Key, Score
from service.learners import find
from service.learners.base import JSON

__all__ = ["Bench", "bench_learners"]

REFERENCE: Final = "finetune"


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
    options: Mapping[str, JSON] = field(default_factory=dict)
    """Of every learner that is named."""
    validation: bool = False
    """Measure on the validation splits."""
    evaluate_every: int = EVERY
    known: Collection[Key] = ()
    """Of scores that are there already, and not measured again."""
    root: Path = field(default_factory=default_root)

    @property
    def steps(self) -> int:
        """How many scores there will be."""
        return sum(1 for _ in self.wanted())

    def wanted(self) -> Iterator[tuple[str, Rehearsal]]:
        """Yield the name and the rehearsal of each score that there will be, in order."""
        for scenario in self.scenarios:
            for seed in range(self.seeds):
                for name, rehearsal in self._learning(scenario, seed):
                    if (rehearsal.stream, name, seed, rehearsal.told) not in self.known:
                        yield name, rehearsal

    def _learning(self, scenario: Scenario, seed: int) -> Iterator[tuple[str, Rehearsal]]:
        reference = Rehearsal(
            REFERENCE,
            scenario,
            seed,
            self.samples,
            validation=self.validation,
            evaluate_every=self.evaluate_every,
            root=self.root,
        )
        yield JOINT, replace(reference, shuffled=True)
        given = [
            replace(
                reference,
                learner=learner,
                oracle=self.oracle,
                options=self._punctual(learner) | dict(self.options),
            )
            for learner in self.learners
        ]
        if reference not in given:
            yield REFERENCE, reference
        for rehearsal in given:
            yield rehearsal.title, rehearsal

    def _punctual(self, learner: str) -> dict[str, JSON]:
        """Return what has a learner that is told go back no further than to the switch itself."""
        return {"lag": 0} if self.oracle and "lag" in find(learner).Options.model_fields else {}


def bench_learners(bench: Bench) -> Iterator[Score]:
    """Yield the score of every learner, and of joint, on every scenario with every seed.

    Raises LetheError when a learner, an option or a data set cannot be had.
    """
    for scenario in bench.scenarios:
        for dataset in {segment.dataset for segment in scenario.segments}:
            fetch(dataset, bench.root)
    joint: tuple[Rehearsal, float] | None = None  # it is the reference's own, and comes just before
    for name, rehearsal in bench.wanted():
        came, own = rehearse(rehearsal), None
        if name == JOINT:
            joint = (rehearsal, came.accuracy)
        elif bench.own_joint:
            alike = replace(rehearsal, shuffled=True, oracle=False)
            own = joint[1] if joint is not None and joint[0] == alike else rehearse(alike).accuracy
        yield Score.of(rehearsal, name, came, own)
