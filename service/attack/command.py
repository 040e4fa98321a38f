"""The command ``lethe attack``: what membership inference finds out of learners, offline."""

import json
import sys
from dataclasses import asdict
from functools import partial
from typing import Annotated

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from typer import Option

from service.errors import InvalidSetting

__all__ = ["attack_learners"]


def attack_learners(
    learner: Annotated[list[str] | None, Option(help="Repeatable; lethe learners lists them.")] = None,
    dataset: Annotated[str, Option(help="Where the samples come from: mnist or fashion-mnist.")] = "mnist",
    samples: Annotated[int, Option(min=100, help="Images; each learner learns half of them.")] = 4000,
    shadows: Annotated[int, Option(min=4, max=256, help="Learners to compare with, an even number.")] = 8,
    targets: Annotated[int, Option(min=1, max=256, help="Learners to attack; the mean is shown.")] = 3,
    option: Annotated[
        list[str] | None,
        Option(metavar="NAME=VALUE", help="An option of the learner, repeatable; for one learner alone."),
    ] = None,
    seed: Annotated[int, Option(min=0, help="Which samples, and who learns which.")] = 0,
    as_json: Annotated[bool, Option("--json", help="Print one JSON document, and nothing else.")] = False,
) -> None:
    """Measure how well learned samples can be told from held-out ones: an attack on membership."""
    from producers.datasets import default_root
    from service.attack.data import draw
    from service.attack.shadows import attack, halves
    from service.flags import read_pairs
    from service.learners import find
    from service.wire import Layout

    names = learner or ["finetune", "ridge", "dp-finetune", "dp-ridge"]
    if option and len(names) > 1:
        raise InvalidSetting("--option is for one learner: name it with --learner")
    if shadows % 2:
        raise InvalidSetting(f"--shadows {shadows}: half of them learn each sample, so it has to be even")
    for name in names:
        find(name)  # refused before the first of them has learned
    layout, root = Layout(), default_root()
    options = read_pairs("learner.options", option or [])
    pool, who = draw(dataset, samples, seed, root), halves(shadows, targets, samples, seed)
    leaks = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for name in names:
            task = progress.add_task(name, total=len(who))
            done = attack(name, pool, who, shadows, layout, options, partial(progress.advance, task))
            leaks += done.leaks()
    if as_json:
        about = {"dataset": dataset, "samples": samples, "shadows": shadows, "targets": targets, "seed": seed}
        json.dump(about | {"leaks": [asdict(leak) for leak in leaks]}, sys.stdout, indent=1)
        sys.stdout.write("\n")
        return
    title = f"What an attack finds out: {samples:,} images of {dataset}, half of them learned"
    table = Table("learner", "attack", title=title, title_justify="left")
    for column in (
        "AUC\n(0.5: nothing)",
        "TPR at 1 % FPR\n(1 %: nothing)",
        "accuracy, %\nlearned / held out",
    ):
        table.add_column(column, justify="right")
    for leak in leaks:
        accuracy = f"{100 * leak.accuracy_learned:.1f} / {100 * leak.accuracy_held_out:.1f}"
        table.add_row(leak.learner, leak.attack, f"{leak.auc:.3f}", f"{100 * leak.tpr:.1f} %", accuracy)
    Console().print(table)
