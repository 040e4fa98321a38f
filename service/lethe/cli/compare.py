"""The command ``lethe compare``: the results of runs side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.table import Table
from typer import Argument, Option

from lethe.files.terminal import markup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lethe.observability.result import RunResult

__all__ = ["compare"]


def compare(
    runs: Annotated[
        list[Path], Argument(metavar="RUN...", help="Results: run.json in the folders of --report or a demo.")
    ],
    html: Annotated[
        Path | None, Option("--html", metavar="PAGE", help="Write the report of all runs, too.")
    ] = None,
) -> None:
    """Show the results of runs side by side: accuracies at the end, and every score.

    Runs of different streams are shown with a warning: their scores are not comparable.
    """
    from lethe.observability.result import RunResult

    results = [RunResult.read(path) for path in runs]
    console = Console()
    console.print(_table(runs, results))
    for what, values in (
        ("segments", {tuple(result.segments) for result in results}),
        ("probes", {tuple(result.probes) for result in results}),
        ("numbers of samples", {result.samples.learned for result in results}),
    ):
        if len(values) > 1:
            console.print(f"[yellow]not alike:[/] the runs have different {what}", soft_wrap=True)
    if html is not None:
        from lethe.report import write_report

        write_report(results, html)
        console.print(f"wrote {markup(str(html))}", soft_wrap=True)


def _table(paths: "Sequence[Path]", results: "Sequence[RunResult]") -> Table:
    from lethe.report.formatting import number, percent
    from lethe.report.tables import scores

    table = Table("")
    for path, result in zip(paths, results, strict=True):
        table.add_column(f"{markup(result.learner)}\n{markup(str(path))}", justify="right", overflow="fold")
    ends = [result.evaluations[-1].accuracy if result.evaluations else {} for result in results]
    for probe in dict.fromkeys(name for result in results for name in result.probes):
        table.add_row(markup(f"accuracy on {probe}"), *(percent(end.get(probe)) for end in ends))
    table.add_section()
    for row in scores(results):
        table.add_row(row.heading, *row.values)
    table.add_section()
    table.add_row("samples learned", *(number(result.samples.learned) for result in results))
    table.add_row("samples learned per second", *(number(result.samples_per_second) for result in results))
    table.add_row("ended", *("failed" if result.failure else "well" for result in results))
    return table
