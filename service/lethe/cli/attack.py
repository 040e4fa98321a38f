"""The command ``lethe attack``: membership inference against learners, offline."""

from dataclasses import asdict
from functools import partial
from typing import Annotated

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from typer import Option

from lethe.cli.options import AsJson, Learners, OneLearnersOptions, write_json
from lethe.errors import InvalidSetting

__all__ = ["attack"]


def attack(
    learner: Learners = None,
    dataset: Annotated[str, Option(help="Data set: mnist or fashion-mnist.")] = "mnist",
    samples: Annotated[
        int, Option(metavar="N", min=100, help="Images to draw; each learner learns half of them.")
    ] = 4000,
    shadows: Annotated[int, Option(metavar="N", min=4, max=256, help="Shadow learners, an even number.")] = 8,
    targets: Annotated[
        int, Option(metavar="N", min=1, max=256, help="Learners to attack; the mean is reported.")
    ] = 3,
    option: OneLearnersOptions = None,
    seed: Annotated[
        int, Option(metavar="N", min=0, help="Seed of the draw and of the split between learners.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Measure how well membership inference separates learned samples from held-out ones."""
    from lethe.cli.flags import read_options_of_one
    from lethe.experiments.attack.data import draw
    from lethe.experiments.attack.shadows import assign_members, run_attack
    from lethe.learners.registry import find
    from lethe.wire import Layout

    names = learner or ["finetune", "ridge", "dp-finetune", "dp-ridge"]
    options = read_options_of_one(names, option)
    if shadows % 2:
        raise InvalidSetting(f"--shadows {shadows}: must be even: half of them learn each sample")
    for name in names:
        find(name)  # reject a bad name before the first of them has learned
    layout = Layout()
    pool, members = draw(dataset, samples, seed), assign_members(shadows, targets, samples, seed)
    leaks = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for name in names:
            task = progress.add_task(name, total=len(members))
            done = run_attack(name, pool, members, shadows, layout, options, partial(progress.advance, task))
            leaks += done.leaks()
    if as_json:
        about = {"dataset": dataset, "samples": samples, "shadows": shadows, "targets": targets, "seed": seed}
        write_json(about | {"leaks": [asdict(leak) for leak in leaks]}, indent=1)
        return
    title = f"Membership inference: {samples:,} images of {dataset}, half of them learned"
    table = Table("learner", "attack", title=title, title_justify="left")
    for column in (
        "AUC\n(chance: 0.5)",
        "TPR at 1 % FPR\n(chance: 1 %)",
        "accuracy, %\nlearned / held out",
    ):
        table.add_column(column, justify="right")
    for leak in leaks:
        accuracy = f"{100 * leak.accuracy_learned:.1f} / {100 * leak.accuracy_held_out:.1f}"
        table.add_row(leak.learner, leak.attack, f"{leak.auc:.3f}", f"{100 * leak.tpr:.1f} %", accuracy)
    Console().print(table)
