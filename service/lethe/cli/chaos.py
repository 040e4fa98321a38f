"""The command ``lethe chaos``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from typer import Option

from lethe.cli.options import AsJson, Broker, Learners, write_json

if TYPE_CHECKING:
    from lethe.experiments.chaos.run import Verdict

__all__ = ["chaos", "table"]


def chaos(
    *,
    kills: Annotated[int, Option(metavar="N", min=1, help="Kills of each learner's service.")] = 25,
    learner: Learners = None,
    broker: Broker = None,
    samples: Annotated[
        int, Option(metavar="N", min=100, help="Records in each of the stream's two segments.")
    ] = 5000,
    faults: Annotated[
        list[str] | None,
        Option(
            metavar="NAME",
            help="Further faults: malformed, transactions, member, recreation, or all; repeatable.",
        ),
    ] = None,
    seed: Annotated[
        int, Option(metavar="N", min=0, help="Seed of the stream, the learners and the kills.")
    ] = 0,
    ranks: Annotated[
        int | None,
        Option(
            metavar="N", min=1, help="Ranks that learn together: one of them, what starts them, or all die."
        ),
    ] = None,
    report: Annotated[
        Path | None, Option(help="An empty folder for states and logs. Default: they are deleted.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Kill services with SIGKILL at random instants, and check that nothing is lost or learned twice.

    Exit status 1 if a service ends with another state than one that was never killed.
    """
    from lethe.experiments.chaos.faults import Fault
    from lethe.experiments.chaos.run import Chaos, default_learners, document, run_chaos

    injected = Fault.of(faults or [], broker)
    learners = learner or default_learners(ranks)
    chosen = Chaos(kills, learners, broker, samples, seed, report, injected, ranks)
    chosen.check()  # before the progress bar appears
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=kills)
        verdicts = run_chaos(chosen, lambda what, count: bar.update(task, description=what, completed=count))
    if as_json:
        write_json(document(chosen, verdicts))
    else:
        Console().print(table(verdicts))
    raise typer.Exit(0 if all(verdict.good for verdict in verdicts.values()) else 1)


def table(verdicts: "dict[str, Verdict]") -> Table:
    """Return the verdicts as a table."""
    numbers = ("kills", "restarts", "samples", "lost", "twice")
    table = Table(
        "learner",
        title="Services killed and restarted, against one that was not",
        title_justify="left",
    )
    for name in numbers:
        table.add_column(name, justify="right")
    table.add_column("state hashes")
    ranked = any(verdict.killed for verdict in verdicts.values())
    if ranked:
        table.add_column("killed")
    recreated = any(verdict.recreated for verdict in verdicts.values())
    if recreated:
        table.add_column("topic recreated")
    for learner, verdict in verdicts.items():
        equal = "[green]equal[/]" if verdict.hashes_equal else "[bold red]different[/]"
        cells = [f"{getattr(verdict, name):,}" for name in numbers]
        hit = ", ".join(f"{what} {count}" for what, count in sorted((verdict.killed or {}).items()))
        more = [*([hit] if ranked else []), *([_of_recreated(verdict)] if recreated else [])]
        table.add_row(learner, *cells, equal, *more)
    return table


def _of_recreated(verdict: "Verdict") -> str:
    found = verdict.recreated
    if found is None:
        return ""
    if found.good:
        return "[green]rejected, then learned completely[/]"
    outcome = "rejected" if found.detected else "not noticed"
    return f"[bold red]{outcome}, lost {found.lost:,}, twice {found.twice:,}, hash {found.hash_equal}[/]"
