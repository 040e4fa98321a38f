"""Renders the demo in the terminal: the services' progress, and the results."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lethe.events import SCORES
from lethe.observability.result import RunResult

__all__ = ["progress", "results"]

BWT: Final = SCORES["bwt"].label
MAX_COLUMNS_LENGTH: Final = 20
"""Total length of probe names up to which probes are columns; longer ones get a table of their own."""


def progress(
    states: Mapping[str, Mapping[str, Any] | None], total: int, probes: Sequence[str]
) -> RenderableType:
    """Return the services' states as a table; a state is None until the service responds."""
    columns = _column_probes(probes)
    table = Table(title="Accuracy while the stream is learned", title_justify="left", expand=True)
    table.add_column("learner")
    table.add_column("progress", ratio=1, min_width=12)
    for column in ("samples", "samples/s", *columns, BWT):
        table.add_column(column, justify="right")
    for learner, state in states.items():
        if state is None:
            table.add_row(learner, Text("starting", style="dim"))
            continue
        learned = state["samples"]["learned"]
        table.add_row(
            learner,
            ProgressBar(total=total, completed=learned + state["samples"]["dead_lettered"]),
            f"{learned:,}",
            f"{state['samples_per_second']:,.0f}",
            *[_percent(state["accuracy"].get(probe)) for probe in columns],
            _points(state["scores"].get("bwt")),
        )
    shown: list[RenderableType] = [table]
    if not columns:
        shown.append(
            _by_probe(
                "probe",
                {
                    learner: [_percent(state["accuracy"].get(probe) if state else None) for probe in probes]
                    for learner, state in states.items()
                },
                probes,
            )
        )
    subjects = {state["segment"] for state in states.values() if state and state["segment"]}
    lost = sum(state["samples"]["lost"] for state in states.values() if state)
    now = ", ".join(sorted(subjects)) or "…"
    return Group(*shown, Text(f"learning {now}; {lost:,} records lost", style="dim"))


def results(runs: Sequence[RunResult]) -> RenderableType:
    """Return the results as a table; accuracies in percent, when learned → at the end."""
    probes = runs[0].probes
    columns = _column_probes(probes)
    title = "Accuracy when learned and at the end of the stream, in %"
    table = Table(title=title if columns else None, title_justify="left")
    table.add_column("learner\nretains", no_wrap=True)
    for probe in columns:
        table.add_column(f"{probe}\nthen → now", justify="right", no_wrap=True)
    for column in (BWT, "samples\n/s", "dead\nletters", "lost"):
        table.add_column(column, justify="right")
    for run in runs:
        table.add_row(
            f"[bold]{run.learner}[/]\n[dim]{run.retains}[/]",
            *[_then_now(run, column) for column in range(len(columns))],
            _points(run.bwt),
            f"{run.samples_per_second:,.0f}",
            f"{run.samples.dead_lettered:,}",
            f"{run.samples.lost:,}",
        )
    if columns:
        return table
    cells = {run.learner: [_then_now(run, column) for column in range(len(probes))] for run in runs}
    return Group(_by_probe("probe\nthen → now", cells, probes, title), table)


def _column_probes(probes: Sequence[str]) -> Sequence[str]:
    return probes if sum(map(len, probes)) <= MAX_COLUMNS_LENGTH else ()


def _by_probe(
    head: str, cells: Mapping[str, Sequence[str]], probes: Sequence[str], title: str | None = None
) -> Table:
    """Return a table with one row per probe and one column per learner."""
    table = Table(title=title, title_justify="left")
    table.add_column(head, no_wrap=True)
    for learner in cells:
        table.add_column(learner, justify="right", no_wrap=True)
    for row, probe in enumerate(probes):
        table.add_row(probe, *[values[row] for values in cells.values()])
    return table


def _then_now(run: RunResult, column: int) -> str:
    probe = run.probes[column]
    if probe not in run.segments or len(run.R) <= run.segments.index(probe) + 1:
        return "–"
    then = run.R[run.segments.index(probe) + 1][column]
    return f"{100 * then:.1f} → {100 * run.R[-1][column]:.1f}"


def _percent(ratio: float | None) -> str:
    return "–" if ratio is None else f"{100 * ratio:.1f} %"


def _points(difference: float | None) -> str:
    return "–" if difference is None else f"{100 * difference:+.1f}"
