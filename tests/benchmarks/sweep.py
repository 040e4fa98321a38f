"""Compares other values of each option, on another scenario and other rows than the published figures.

``python -m tests.benchmarks.sweep`` learns Fashion-MNIST, then MNIST, and measures on the validation
splits of both, which the stream lacks: once with every default, and once more for each other value of
`VALUES`, one at a time, seed by seed. Boundaries are not given. It prints a table in
Markdown: ACC of each value, the defaults in bold. ``--learner`` names some of them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, Final

import typer

from lethe.cli.bench.output import progress
from lethe.experiments.bench.offline_run import OfflineRun, run_offline
from lethe.learners.registry import find
from lethe.learners.state import JSON
from lethe_producers.scenario import load_scenario

__all__ = ["ELSEWHERE", "VALUES", "sweep"]

SCENARIO: Final = "fashion-to-mnist"
_LAG: Final[tuple[JSON, ...]] = (1024, 2048, 4096)

VALUES: Final[dict[str, dict[str, tuple[JSON, ...]]]] = {
    "finetune": {"lr": (3e-4, 1e-3, 3e-3)},
    "ewc": {
        "strength": (3.0, 10.0, 30.0),
        "decay": (0.5, 0.9, 1.0),
        "horizon": (5_000, 20_000, 80_000),
        "power": (0.25, 0.5, 1.0),
        "lag": _LAG,
    },
    "si": {
        "strength": (3.0, 10.0, 30.0),
        "decay": (0.5, 0.9, 1.0),
        "damping": (1e-4, 1e-3, 1e-2),
        "lag": _LAG,
    },
    "mas": {
        "strength": (3.0, 10.0, 30.0),
        "decay": (0.5, 0.9, 1.0),
        "horizon": (5_000, 20_000, 80_000),
        "every": (128, 256, 512),
        "lag": _LAG,
    },
    "lwf": {"strength": (0.1, 0.3, 1.0), "temperature": (1.0, 2.0, 4.0), "lag": _LAG},
    "generative-replay": {
        "replayed": (32, 64, 128),
        "latent": (16, 32, 64),
        "generator_lr": (2e-3, 4e-3, 8e-3),
        "lag": _LAG,
    },
    "replay": {"rehearsed": (32, 64, 128)},
    "der++": {
        "rehearsed": (32, 64, 128),
        "scores_weight": (0.2, 0.5, 1.0),
        "labels_weight": (0.2, 0.5, 1.0),
    },
    "agem": {"rehearsed": (32, 64, 128)},
    "ridge": {"penalty": (0.1, 0.3, 1.0), "waves": (2300, 4600, 6800)},
    "experts": {
        "penalty": (0.03, 0.1, 0.3),
        "waves": (2300, 4600, 6800),
        "temperature": (0.05, 0.1, 0.2),
    },
    "slda": {"shrinkage": (1e-4, 1e-3, 1e-2), "waves": (1000, 2000, 4000)},
    "ncm": {"waves": (500, 1000, 2000)},
}
"""The values that are tried of each option, its default among them."""

ELSEWHERE: Final = {
    "backbone": "the user's choice; all share the default",
    "features": "the user's choice",
    "weights": "the same",
    "side": "the same",
    "location": "of vectors, and the user's knowledge of them",
    "spread": "the same",
    "optimizer": "the user's choice; all share the default",
    "optimizer_options": "the optimizer's own defaults",
    "lr": "tried with finetune, whose network and optimizer the others share",
    "capacity": "a budget, not a choice: how many samples may be kept",
    "regimes": "a bound on memory",
    "first_refresh": "when learning's own predictions are renewed: changes no accuracy on probes",
    "refresh_every": "the same",
    "ridge.temperature": "of probabilities alone: changes no accuracy",
    "ncm.temperature": "the same",
    "epsilon": "a budget",
    "delta": "a budget",
    "appearances": "what is promised about a person's records",
    "noise_multiplier": "follows from the budget",
    "noise": "whether noise can be drawn again",
    "clip": "tried on Fashion-MNIST alone: tests.benchmarks.hyperparameters, docstring of dp_finetune.py",
    "learning_rate": "the same",
    "momentum": "the same",
    "scale": "the same",
    "first_block": "when a private learner first predicts: the same, docstring of dp_ridge.py",
    "largest_block": "the same",
    "dp-ridge.penalty": "the same",
}
"""Options that are not tried here, of one learner or all, and why."""


@dataclass(frozen=True)
class Sweep:
    """What is tried: ``samples`` of each segment at the most, ``seeds`` times."""

    learners: tuple[str, ...]
    samples: int
    seeds: int

    def trials(self) -> Iterator[tuple[str, dict[str, JSON]]]:
        """Yield each learner with the options of a trial, the defaults first."""
        for learner in self.learners:
            yield learner, {}
            for option, values in VALUES[learner].items():
                for value in values:
                    if value != default(learner, option):
                        yield learner, {option: value}

    def measure(self, learner: str, options: Mapping[str, JSON]) -> float:
        """Return ACC, the mean over the seeds."""
        scenario = load_scenario(SCENARIO)
        return fmean(
            run_offline(
                OfflineRun(learner, scenario, seed, self.samples, options=options, validation=True)
            ).accuracy
            for seed in range(self.seeds)
        )


def default(learner: str, option: str) -> JSON:
    """Return the default of a learner's option."""
    value: JSON = getattr(find(learner).Options(), option)
    return value


def row(learner: str, option: str, found: Mapping[tuple[str, JSON], float], plain: float) -> str:
    """Return a line of the table: each value and its ACC, the default in bold."""
    shown = []
    for value in VALUES[learner][option]:
        chosen = value == default(learner, option)
        text = f"{value:g}: {plain if chosen else found[option, value]:.3f}"
        shown.append(f"**{text}**" if chosen else text)
    return f"| `{learner}` | `{option}` | {' · '.join(shown)} |"


def sweep(
    learner: Annotated[list[str] | None, typer.Option(help="Repeatable.", show_default="all")] = None,
    samples: Annotated[int, typer.Option(min=1, help="At most so many of each segment.")] = 10_000,
    seeds: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Print the table."""
    names = tuple(learner or VALUES)
    if unknown := set(names) - VALUES.keys():
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: none of {', '.join(VALUES)}")
    print("| learner | option | ACC with each value |\n|---|---|---|")
    with progress() as bar:
        task = bar.add_task("trying", total=len(list(Sweep(names, samples, seeds).trials())))
        for name in names:
            plan, found = Sweep((name,), samples, seeds), dict[tuple[str, JSON], float]()
            for _, options in plan.trials():
                key = next(iter(options.items()), ("", None))
                found[key] = plan.measure(name, options)
                bar.update(task, advance=1, description=f"{name} {options}: {found[key]:.3f}")
            for option in VALUES[name]:
                print(row(name, option, found, found["", None]), flush=True)


if __name__ == "__main__":
    typer.run(sweep)
