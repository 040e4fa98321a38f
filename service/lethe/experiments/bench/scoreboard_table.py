"""Renders the scoreboard as a table for the terminal."""

from collections.abc import Callable, Sequence
from typing import Final

from rich.table import Table

from lethe.events import SCORES
from lethe.experiments.bench.scores import MEASURES, Summary, basis

__all__ = ["WIDTH", "scoreboard_table"]

WIDTH: Final = 236
"""Width in columns if the output is not a terminal; no name of Lethe's own is truncated."""

_COLUMNS: Final[dict[str, tuple[str, Callable[[float], str]]]] = {
    **{
        key: (SCORES[name].label, ("{:+.3f}" if SCORES[name].kind == "difference" else "{:.3f}").format)
        for key, name in MEASURES.items()
        if name in SCORES and SCORES[name].column is not None
    },
    "below_joint": ("below joint", "{:+.3f}".format),
    "samples_per_second": ("samples/s", "{:,.0f}".format),
}
_MEANS: Final = {key for key, name in MEASURES.items() if name in SCORES and SCORES[name].column == "mean"}
"""Columns without the deviation, which is in the files."""


def scoreboard_table(summaries: Sequence[Summary]) -> Table:
    """Return a table with one row per learner and scenario: mean ± standard deviation over the seeds."""
    table = Table(title=basis(summaries), expand=False)
    shown = [name for name in _COLUMNS if any(s.measures[name] is not None for s in summaries)]
    returning = any(_mean(summary, "returns") for summary in summaries)
    several = len({summary.scenario for summary in summaries}) > 1
    for heading in (*(["scenario"] if several else []), "learner", "retains"):
        table.add_column(heading, no_wrap=True)
    for heading in (
        *(_COLUMNS[name][0] for name in shown),
        "probes",
        "state",
        "found",
        "delay",
        "longest",
        "false",
        *(["recognised"] if returning else []),
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for place, summary in enumerate(summaries):
        if place and summary.scenario != summaries[place - 1].scenario:
            table.add_section()
        table.add_row(
            *([summary.scenario] if several else []),
            summary.learner,
            summary.retains,
            *(_cell(summary, name) for name in shown),
            _probes(summary),
            f"{_mean(summary, 'state_bytes') / 2**20:,.1f} MiB",
            *_boundaries(summary),
            *([_recognised(summary)] if returning else []),
        )
    return table


def _cell(summary: Summary, measure: str) -> str:
    shown = _COLUMNS[measure][1]
    if measure in _MEANS:
        return _mean_or_dash(summary, measure, shown)
    return _spread(summary.measures[measure], shown)


def _boundaries(summary: Summary) -> tuple[str, str, str, str]:
    """Return the cells of detected boundaries, mean and longest delay, and false alarms."""
    if summary.given_boundaries:
        return "given", "–", "–", "–"
    found = f"{_mean(summary, 'found'):.3g}/{_mean(summary, 'boundaries'):.3g}"
    delay, longest = (_mean_or_dash(summary, name, "{:,.0f}".format) for name in ("delay", "longest_delay"))
    return found, delay, longest, f"{_mean(summary, 'false_alarms'):.3g}"


def _recognised(summary: Summary) -> str:
    """Return how many recurring segments were recognised as an earlier regime."""
    return f"{_mean(summary, 'recognised'):.3g}/{_mean(summary, 'returns'):.3g}"


def _probes(summary: Summary) -> str:
    """Return the final accuracy on each probe; only the lowest and highest if there are more than three."""
    accuracies = list(summary.probes.values())
    if len(accuracies) > 3:
        return f"{min(accuracies):.3f} … {max(accuracies):.3f}"
    return " / ".join(f"{accuracy:.3f}" for accuracy in accuracies)


def _mean_or_dash(summary: Summary, measure: str, shown: Callable[[float], str]) -> str:
    found = summary.measures[measure]
    return "–" if found is None else shown(found[0])


def _mean(summary: Summary, measure: str) -> float:
    found = summary.measures[measure]
    return 0.0 if found is None else found[0]


def _spread(found: tuple[float, float | None] | None, shown: Callable[[float], str]) -> str:
    if found is None:
        return "–"
    mean, deviation = found
    return shown(mean) if deviation is None else f"{shown(mean)} ± {shown(deviation).lstrip('+')}"
