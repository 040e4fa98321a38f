"""The command ``lethe bench speed``."""

from typing import Annotated

from rich.console import Console
from typer import Option

from lethe.cli.bench.output import progress
from lethe.cli.options import AsJson, Learners, LearnersOptions, Threads, Turns, write_json

__all__ = ["speed"]


def speed(
    *,
    learner: Learners = None,
    option: LearnersOptions = None,
    threads: Threads = 2,
    samples: Annotated[int, Option(metavar="N", min=512, help="Samples of each side in one turn.")] = 16384,
    turns: Turns = 5,
    as_json: AsJson = False,
) -> None:
    """Compare the speed of learners, from memory, with that of a bare PyTorch loop.

    The bare loop trains the same network as finetune. Learners also predict each batch, look for boundaries
    and solve. Each turn has every side, in random order; ratios are of all turns, with their quartiles.
    """
    from lethe.cli.flags import read_pairs
    from lethe.experiments.bench.speed import SpeedBench, Speeds, bench_speed, speeds_table

    options = read_pairs("--option", option or [])
    bench = SpeedBench(learner or SpeedBench.learners, threads, samples, turns, options)
    speeds = Speeds(samples)
    with progress() as bar:
        task = bar.add_task("learning", total=turns)
        for speeds in bench_speed(bench):
            ratios = ", ".join(f"{side} {speeds.ratio(side):.2f}" for side in bench.learners)
            bar.update(task, advance=1, description=ratios)
    if as_json:
        rows = {
            side: {
                "samples_per_second": speeds.samples_per_second(side),
                "ratio": speeds.ratio(side),
                "quartiles": speeds.quartiles(side),
            }
            for side in speeds.seconds
        }
        write_json({"threads": threads, "samples": samples, "turns": turns, "sides": rows})
        return
    Console().print(speeds_table(speeds, threads))
