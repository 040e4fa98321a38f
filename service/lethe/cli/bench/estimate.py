"""The command ``lethe bench estimate``."""

from dataclasses import asdict
from typing import Annotated

from rich.console import Console
from rich.table import Table
from typer import Option

from lethe.cli.bench.output import progress
from lethe.cli.options import AsJson, Learners, write_json

__all__ = ["estimate"]


def estimate(
    *,
    learner: Learners = None,
    scenario: Annotated[str, Option(help="A scenario's name or YAML file.")] = "mnist-to-fashion",
    samples: Annotated[
        int | None, Option(metavar="N", min=100, help="Maximum records of each segment.")
    ] = None,
    unlabelled: Annotated[
        float,
        Option(metavar="SHARE", min=0, max=0.99, help="Share of the records that come without a label."),
    ] = 0.0,
    seed: Annotated[int, Option(metavar="N", min=0, help="Seed of the stream and the learner.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Measure the error of the accuracy that is estimated from confidences alone, without labels."""
    from lethe.experiments.bench.estimates import SETTLED, measure_estimate

    names = learner or ["finetune", "ridge"]
    with progress() as bar:
        task = bar.add_task("learning", total=len(names))
        found = []
        for name in names:
            found.append(measure_estimate(name, scenario, seed, samples, unlabelled))
            bar.update(task, advance=1)
    if as_json:
        write_json([asdict(error) for error in found])
        return
    without = f", {100 * unlabelled:g} % without a label" if unlabelled else ""
    table = Table("learner", title=f"Points from the true accuracy, {found[0].scenario}{without}")
    for heading in ("otherwise", f"within {SETTLED:,} samples of a switch", "at most"):
        table.add_column(heading, justify="right")
    for error in found:
        after = "none" if error.after_switch is None else f"{100 * error.after_switch:.1f}"
        table.add_row(error.learner, f"{100 * error.steady:.1f}", after, f"{100 * error.largest:.1f}")
    Console().print(table)
