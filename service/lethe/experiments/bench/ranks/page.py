"""Draws the simulation of ranks as one HTML file that needs no network: efficiency, and parts of the time."""

from collections.abc import Sequence
from pathlib import Path

from lethe.experiments.bench.ranks.simulation import Simulated
from lethe.files.html.templates import render
from lethe.report import figures
from lethe.report.figures import Figure
from lethe.report.page import SECURITY_POLICY
from lethe.report.plotly_script import plotly_script

__all__ = ["write_page"]


def write_page(simulated: Sequence[Simulated], title: str, path: Path) -> None:
    """Write two figures over the number of ranks; ``title`` says of what they are."""
    parts = list(simulated[0].shares)
    document = render(
        "experiments/bench/ranks/page.html.jinja",
        security_policy=SECURITY_POLICY,
        title=title,
        parts=figures.legend(parts),
        figures={"efficiency": _efficiency(simulated), "time": _time(simulated, parts)},
        plotly=plotly_script(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document, encoding="utf-8")


def _efficiency(simulated: Sequence[Simulated]) -> Figure:
    trace = figures.line(
        [one.ranks for one in simulated],
        [one.efficiency for one in simulated],
        figures.colour(["efficiency"], "efficiency"),
        hover="%{x:,} ranks: %{y:.0%}",
        dots=[8] * len(simulated),
    )
    return {
        "data": [trace],
        "layout": {
            "height": 320,
            "xaxis": {"type": "log", "title": {"text": "ranks"}},
            "yaxis": {"tickformat": ".0%", "rangemode": "tozero"},
            "margin": {"t": 8},
        },
    }


def _time(simulated: Sequence[Simulated], parts: Sequence[str]) -> Figure:
    bars = [
        {
            "type": "bar",
            "name": part,
            "x": [f"{one.ranks:,}" for one in simulated],
            "y": [one.shares[part] for one in simulated],
            "marker": {"color": figures.colour(parts, part)},
        }
        for part in parts
    ]
    return {
        "data": bars,
        "layout": {
            "barmode": "stack",
            "height": 320,
            "xaxis": {"type": "category", "title": {"text": "ranks"}},
            "yaxis": {"tickformat": ".0%"},
            "margin": {"t": 8},
        },
    }
