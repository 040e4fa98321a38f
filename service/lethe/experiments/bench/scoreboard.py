"""Runs the scoreboard: learners × scenarios × seeds, with two references.

The references of every scenario are ``finetune``, which does nothing against forgetting, and ``joint``,
its network on the same samples in random order.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from lethe.experiments.bench.offline_run import EVERY, OfflineRun, run_offline
from lethe.experiments.bench.scores import JOINT, Key, Score
from lethe.learners.registry import find
from lethe.learners.state import JSON
from lethe_producers.dataset_downloads import fetch
from lethe_producers.datasets import default_root
from lethe_producers.scenario import Scenario, load_scenario

__all__ = ["Bench", "bench_learners", "load_scenarios"]

REFERENCE: Final = "finetune"


@dataclass(frozen=True)
class Bench:
    """The learners, scenarios and options to compare."""

    scenarios: Sequence[Scenario]
    learners: Sequence[str]
    seeds: int = 3
    samples: int | None = None
    """Limit of samples per segment."""
    oracle: bool = False
    own_joint: bool = False
    """Run every learner on the shuffled stream too, not only the reference."""
    options: Mapping[str, JSON] = field(default_factory=dict)
    """Options of every learner in ``learners``."""
    validation: bool = False
    """Evaluate on the validation splits."""
    evaluate_every: int = EVERY
    known: Collection[Key] = ()
    """Keys of scores that exist already and are not computed again."""
    root: Path = field(default_factory=default_root)

    @property
    def steps(self) -> int:
        """Number of scores to compute."""
        return sum(1 for _ in self.wanted())

    def wanted(self) -> Iterator[tuple[str, OfflineRun]]:
        """Yield the learner's title and the run of each score to compute, in order."""
        for scenario in self.scenarios:
            for seed in range(self.seeds):
                for name, offline in self._learning(scenario, seed):
                    if (offline.stream, name, seed, offline.given_boundaries) not in self.known:
                        yield name, offline

    def _learning(self, scenario: Scenario, seed: int) -> Iterator[tuple[str, OfflineRun]]:
        reference = OfflineRun(
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
                options=self._oracle_options(learner) | dict(self.options),
            )
            for learner in self.learners
        ]
        if reference not in given:
            yield REFERENCE, reference
        for offline in given:
            yield offline.title, offline

    def _oracle_options(self, learner: str) -> dict[str, JSON]:
        """Return options with which a learner that is given the boundaries restarts exactly there."""
        return {"lag": 0} if self.oracle and "lag" in find(learner).Options.model_fields else {}


def load_scenarios(names: Sequence[str]) -> list[Scenario]:
    """Return the scenarios of these names or paths. Raises InvalidScenario."""
    return [load_scenario(name) for name in names]


def bench_learners(bench: Bench) -> Iterator[Score]:
    """Yield the score of every learner, and of joint, on every scenario with every seed.

    Raises LetheError if a learner, an option or a data set does not exist.
    """
    for scenario in bench.scenarios:
        for dataset in scenario.datasets:
            fetch(dataset, bench.root)
    joint: tuple[OfflineRun, float] | None = None  # the reference's own, which comes just before
    for name, offline in bench.wanted():
        result, own = run_offline(offline), None
        if name == JOINT:
            joint = (offline, result.accuracy)
        elif bench.own_joint:
            alike = replace(offline, shuffled=True, oracle=False)
            own = joint[1] if joint is not None and joint[0] == alike else run_offline(alike).accuracy
        yield Score.of(offline, name, result, own)
