"""What the demo shows in the terminal: the services while they learn, and the result."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from service.result import RunResult

__all__ = ["progress", "results"]


ABREAST: Final = 20
"""Probes whose names are longer, taken together, get a table of their own: 80 columns hold no more."""


def progress(
    states: Mapping[str, Mapping[str, Any] | None], total: int, probes: Sequence[str]
) -> RenderableType:
    """Return the services' state as a table; a state is None before the service answers."""
    abreast = _abreast(probes)
    table = Table(title="What is known while the stream goes by", title_justify="left", expand=True)
    table.add_column("learner")
    table.add_column("progress", ratio=1, min_width=12)
    for column in ("samples", "samples/s", *abreast, "BWT"):
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
            *[_percent(state["accuracy"].get(probe)) for probe in abreast],
            _points(state["scores"].get("bwt")),
        )
    shown: list[RenderableType] = [table]
    if not abreast:
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
    """Return what came of the runs as a table; accuracies are when learned → at the end, in percent."""
    probes = runs[0].probes
    abreast = _abreast(probes)
    title = "What is left at the end of the stream, in %"
    table = Table(title=title if abreast else None, title_justify="left")
    table.add_column("learner\nkeeps", no_wrap=True)
    for probe in abreast:
        table.add_column(f"{probe}\nthen → now", justify="right", no_wrap=True)
    for column in ("BWT", "samples\n/s", "dead\nletters", "lost"):
        table.add_column(column, justify="right")
    for run in runs:
        table.add_row(
            f"[bold]{run.learner}[/]\n[dim]{run.retains}[/]",
            *[_then_now(run, column) for column in range(len(abreast))],
            _points(run.bwt),
            f"{run.samples_per_second:,.0f}",
            f"{run.samples.dead_lettered:,}",
            f"{run.samples.lost:,}",
        )
    if abreast:
        return table
    told = {run.learner: [_then_now(run, column) for column in range(len(probes))] for run in runs}
    return Group(_by_probe("probe\nthen → now", told, probes, title), table)


def _abreast(probes: Sequence[str]) -> Sequence[str]:
    return probes if sum(map(len, probes)) <= ABREAST else ()


def _by_probe(
    head: str, told: Mapping[str, Sequence[str]], probes: Sequence[str], title: str | None = None
) -> Table:
    """Return a table with a row for each probe and a column for each learner."""
    table = Table(title=title, title_justify="left")
    table.add_column(head, no_wrap=True)
    for learner in told:
        table.add_column(learner, justify="right", no_wrap=True)
    for row, probe in enumerate(probes):
        table.add_row(probe, *[values[row] for values in told.values()])
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
