"""The command ``lethe chaos``."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from typer import Option

if TYPE_CHECKING:
    from service.chaos.conduct import Verdict

__all__ = ["chaos", "table"]


def chaos(
    *,
    kills: Annotated[int, Option(min=1, help="How often each learner's service is killed.")] = 25,
    learner: Annotated[list[str] | None, Option(help="Repeatable; lethe learners lists them.")] = None,
    broker: Annotated[
        str | None, Option(metavar="HOST:PORT", help="A Kafka cluster; without it, a broker in this process.")
    ] = None,
    samples: Annotated[int, Option(min=100, help="Of each of the stream's two segments.")] = 5000,
    seed: Annotated[int, Option(min=0, help="Of the stream, the learners and the kills.")] = 0,
    report: Annotated[
        Path | None, Option(help="An empty folder for states and logs; without it, they are not kept.")
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print one JSON document, and nothing else.")] = False,
) -> None:
    """Kill services with SIGKILL at random instants, and check that nothing is lost or learned twice.

    Exit status 1 if one ends otherwise than a service that was left alone.
    """
    from service.chaos.conduct import Chaos, document, run_chaos

    chosen = Chaos(kills, learner or ["finetune", "ridge"], broker, samples, seed, report)
    chosen.check()  # before there is a bar to be seen
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=kills)
        verdicts = run_chaos(chosen, lambda what, count: bar.update(task, description=what, completed=count))
    if as_json:
        json.dump(document(chosen, verdicts), sys.stdout)
        sys.stdout.write("\n")
    else:
        Console().print(table(verdicts))
    raise typer.Exit(0 if all(verdict.good for verdict in verdicts.values()) else 1)


def table(verdicts: "dict[str, Verdict]") -> Table:
    """Return the verdicts as people read them."""
    numbers = ("kills", "restarts", "samples", "lost", "twice")
    table = Table("learner", title="Killed and started again, against a run left alone", title_justify="left")
    for name in numbers:
        table.add_column(name, justify="right")
    table.add_column("state hashes")
    for learner, verdict in verdicts.items():
        equal = "[green]equal[/]" if verdict.hashes_equal else "[bold red]different[/]"
        table.add_row(learner, *[f"{getattr(verdict, name):,}" for name in numbers], equal)
    return table
