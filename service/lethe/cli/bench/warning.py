"""The command ``lethe bench warning``."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from typer import Option

from lethe.cli.options import AsJson, Learner, write_json

if TYPE_CHECKING:
    from lethe.experiments.anatomy.warning import Warned

__all__ = ["warning"]


def warning(
    *,
    learner: Learner = "finetune",
    scenario: Annotated[
        list[str] | None,
        Option(help="A scenario's name or YAML file; repeatable. Default: all built-in ones."),
    ] = None,
    samples: Annotated[
        int | None, Option(metavar="N", min=100, help="Maximum records of each segment.")
    ] = None,
    seed: Annotated[int, Option(metavar="N", min=0, help="Seed of the stream and the learner.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Measure how long before accuracy is lost a surge of the loss on new batches warns."""
    from lethe.experiments.anatomy.warning import require_network, warnings_of

    require_network(learner)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(learner, total=1.0)
        found = warnings_of(
            learner, scenario or [], seed, samples, lambda share: bar.update(task, completed=share)
        )
    if as_json:
        write_json({name: asdict(warned) for name, warned in found.items()})
        return
    Console().print(_table(found))


def _table(found: "dict[str, Warned]") -> Table:
    switches = [switch for warned in found.values() for switch in warned.switches]
    in_time = sum(switch.in_time for switch in switches)
    table = Table(
        "scenario",
        "old probe",
        title="Samples from a switch until",
        title_justify="left",
        caption=f"A warning in time at {in_time} of {len(switches)} switches." if switches else None,
        caption_justify="left",
    )
    for column in ("the loss surges", "a boundary is detected", "5 points are lost", "warned in time"):
        table.add_column(column, justify="right")
    for name, warned in found.items():
        for switch in warned.switches:
            numbers = (switch.warned, switch.detected, switch.lost)
            cells = ["never" if number is None else f"{number:,}" for number in numbers]
            table.add_row(name, switch.old, *cells, "yes" if switch.in_time else "[bold red]no[/]")
        false = f"{len(warned.false_alarms)} false alarms in {warned.samples:,} samples"
        table.add_row(name, false)
    return table
