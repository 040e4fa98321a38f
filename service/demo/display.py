"""What the demo shows in the terminal: the services while they learn, and the result."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from service.result import RunResult

__all__ = ["progress", "results"]


def progress(
    states: Mapping[str, Mapping[str, Any] | None], total: int, probes: Sequence[str]
) -> RenderableType:
    """Return the services' state as a table; a state is None before the service answers."""
    table = Table(title="What is known while the stream goes by", title_justify="left", expand=True)
    table.add_column("learner")
    table.add_column("progress", ratio=1, min_width=12)
    table.add_column("samples", justify="right")
    table.add_column("samples/s", justify="right")
    for probe in probes:
        table.add_column(probe, justify="right")
    table.add_column("BWT", justify="right")
    for learner, state in states.items():
        if state is None:
            table.add_row(learner, Text("starting", style="dim"), *[""] * (3 + len(probes)))
            continue
        learned = state["samples"]["learned"]
        table.add_row(
            learner,
            ProgressBar(total=total, completed=learned),
            f"{learned:,}",
            f"{state['samples_per_second']:,.0f}",
            *[_percent(state["accuracy"].get(probe)) for probe in probes],
            _points(state["scores"].get("bwt")),
        )
    subjects = {state["segment"] for state in states.values() if state and state["segment"]}
    lost = sum(state["samples"]["lost"] for state in states.values() if state)
    now = ", ".join(sorted(subjects)) or "…"
    return Group(table, Text(f"learning {now}; {lost:,} records lost", style="dim"))


def results(runs: Sequence[RunResult]) -> RenderableType:
    """Return what came of the runs as a table; accuracies are when learned → at the end, in percent."""
    table = Table(title="What is left at the end of the stream, in %", title_justify="left")
    table.add_column("learner\nkeeps", no_wrap=True)
    for probe in runs[0].probes:
        table.add_column(f"{probe}\nthen → now", justify="right", no_wrap=True)
    for column in ("BWT", "samples\n/s", "dead\nletters", "lost"):
        table.add_column(column, justify="right")
    for run in runs:
        table.add_row(
            f"[bold]{run.learner}[/]\n[dim]{run.retains}[/]",
            *[_then_now(run, column) for column in range(len(run.probes))],
            _points(run.bwt),
            f"{run.samples_per_second:,.0f}",
            f"{run.samples.dead_lettered:,}",
            f"{run.samples.lost:,}",
        )
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
