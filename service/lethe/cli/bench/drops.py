"""The command ``lethe bench drops``."""

from typing import Annotated

import numpy as np
from rich.console import Console
from rich.table import Table
from typer import Option

from lethe.cli.bench.output import progress
from lethe.cli.options import AsJson, write_json

__all__ = ["drops"]

NOISES = (0.0, 0.02, 0.3)
"""Shares of answers that change by chance, for the false alarms."""


def drops(
    *,
    lives: Annotated[int, Option(metavar="N", min=10, help="Services that watch side by side.")] = 1000,
    rounds: Annotated[int, Option(metavar="N", min=10, help="Rounds of each without a drop.")] = 10_000,
    sample: Annotated[int, Option(metavar="N", min=1, help="Images in a round.")] = 16,
    drop: Annotated[float, Option(min=0.02, max=0.9, help="The drop to find.")] = 0.05,
    seed: Annotated[int, Option(metavar="N", min=0, help="Seed of the simulation.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Simulate the sequential test of lethe watch: its false alarms, and the images that a drop takes."""
    from lethe.experiments.bench.drops import DropBench, false_alarms, fixed_subset, images_to_find

    bench = DropBench(lives, rounds, sample, drop, seed=seed)
    with progress() as bar:
        task = bar.add_task("without a drop", total=len(NOISES))
        wrong = {}
        for done, noise in enumerate(NOISES):
            wrong[noise] = false_alarms(bench, noise)
            bar.update(task, completed=done + 1)
    found = {quiet: images_to_find(bench, quiet) for quiet in (0, rounds // 10, rounds)}
    fixed = {
        "accuracies compared": fixed_subset(bench, paired=False),
        "answers compared image by image": fixed_subset(bench, paired=True),
    }
    if as_json:
        medians = {str(quiet): float(np.median(images)) for quiet, images in found.items()}
        write_json(
            {"false_alarms": {str(noise): share for noise, share in wrong.items()}}
            | {"alpha": bench.alpha, "lives": lives, "rounds": rounds, "sample": sample, "drop": drop}
            | {"images_to_find": medians, "fixed_subset": fixed}
        )
        return
    alarms = Table(
        "answers that change by chance", title=f"{lives:,} lives of {rounds:,} rounds without drops"
    )
    alarms.add_column("lives with a false alarm", justify="right")
    for noise, share in wrong.items():
        alarms.add_row(f"{noise:.0%}", f"{share:.2%}, at most {bench.alpha:.0%}")
    needed = Table("asked about", title=f"Images of a probe until a drop of {100 * drop:g} points is found")
    for heading in ("each round", "after the drop"):
        needed.add_column(heading, justify="right")
    for quiet, images in found.items():
        lower, median, upper = np.quantile(images, [0.1, 0.5, 0.9])
        numbers = f"{median:,.0f} ({lower:,.0f} to {upper:,.0f})"
        needed.add_row(f"drawn anew, dropped after {quiet:,} rounds", f"{sample:,}", numbers)
    for name, size in fixed.items():
        needed.add_row(f"a fixed subset, {name}", f"{size:,}", f"{size:,}")
    for table in (alarms, needed):
        Console().print(table)
