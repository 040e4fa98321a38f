"""The command ``lethe bench checkpoint``."""

from statistics import median
from typing import Annotated

from typer import Option

from lethe.cli.bench.output import progress, show
from lethe.cli.options import AsJson, Learner, Turns

__all__ = ["checkpoint"]


def checkpoint(
    *,
    learner: Learner = "finetune",
    turns: Turns = 7,
    samples: Annotated[int, Option(metavar="N", min=1, help="Samples in one measurement.")] = 8192,
    subjects: Annotated[int, Option(metavar="N", min=1, max=8, help="Subjects between two checkpoints.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Measure the cost of writing checkpoints in the background, at the default interval."""
    from lethe.experiments.bench.checkpoint import CheckpointBench, CheckpointCost, bench_checkpoint

    cost = CheckpointCost()
    with progress() as bar:
        task = bar.add_task("warming up", total=turns)
        for cost in bench_checkpoint(CheckpointBench(learner, samples, subjects, turns)):
            bar.update(task, advance=1, description=f"{cost.seconds_lost:.3f} s lost a checkpoint so far")
    numbers = {
        "learner": learner,
        "subjects": subjects,
        "bytes": cost.size,
        "seconds_lost_per_checkpoint": cost.seconds_lost,
        "lower_quartile": cost.quartiles[0],
        "upper_quartile": cost.quartiles[1],
        "cpu_seconds": median(cost.cpu),
        "every_seconds": cost.every_seconds,
        "cost": cost.ratio,
        "cost_of_one_core": cost.cpu_ratio,
    }
    show(numbers, as_json)
