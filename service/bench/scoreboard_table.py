"""The scoreboard as a table for the terminal."""

from collections.abc import Callable, Sequence
from typing import Final

from rich.table import Table

from service.bench.scores import Summary, basis

__all__ = ["WIDTH", "scoreboard_table"]

WIDTH: Final = 236
"""Columns that the table may take, where there is no terminal to ask: Lethe's own names are not cut off."""

_COLUMNS: Final[dict[str, tuple[str, Callable[[float], str]]]] = {
    "acc": ("ACC", "{:.3f}".format),
    "bwt": ("BWT", "{:+.3f}".format),
    "wc_acc": ("WC-ACC", "{:.3f}".format),
    "anytime": ("anytime", "{:.3f}".format),
    "below_joint": ("below joint", "{:+.3f}".format),
    "samples_per_second": ("samples/s", "{:,.0f}".format),
}


def scoreboard_table(summaries: Sequence[Summary]) -> Table:
    """Return a row for each learner on each scenario, mean ± standard deviation over the seeds."""
    table = Table(title=basis(summaries), expand=False)
    shown = [name for name in _COLUMNS if any(s.measures[name] is not None for s in summaries)]
    returning = any(_mean(summary, "returns") for summary in summaries)
    several = len({summary.scenario for summary in summaries}) > 1
    for heading in (*(["scenario"] if several else []), "learner", "retains"):
        table.add_column(heading, no_wrap=True)
    for heading in (
        *(_COLUMNS[name][0] for name in shown),
        "probes",
        "ECE",
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
            *(_spread(summary.measures[name], _COLUMNS[name][1]) for name in shown),
            _probes(summary),
            _mean_or_dash(summary, "ece", "{:.3f}".format),  # its deviation is in the files
            f"{_mean(summary, 'state_bytes') / 2**20:,.1f} MiB",
            *_boundaries(summary),
            *([_recognised(summary)] if returning else []),
        )
    return table


def _boundaries(summary: Summary) -> tuple[str, str, str, str]:
    """Return how many switches were found, after how many samples, and how often one was that is none."""
    if summary.told:
        return "told", "–", "–", "–"
    found = f"{_mean(summary, 'found'):.3g}/{_mean(summary, 'boundaries'):.3g}"
    delay, longest = (_mean_or_dash(summary, name, "{:,.0f}".format) for name in ("delay", "longest_delay"))
    return found, delay, longest, f"{_mean(summary, 'false_alarms'):.3g}"


def _recognised(summary: Summary) -> str:
    """Return how many of the segments that came back were told to be an earlier one's regime."""
    return f"{_mean(summary, 'recognised'):.3g}/{_mean(summary, 'returns'):.3g}"


def _probes(summary: Summary) -> str:
    """Return the accuracy on each probe at the end; the worst and the best of more than three."""
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
