"""The scoreboard as one HTML file that needs no network: accuracy, and what it costs."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from service.bench.scores import JOINT, Summary, basis

__all__ = ["write_page"]

_RATIO: Final = ".0%"
_COUNT: Final = ",.3~f"
_PANELS: Final = {
    "acc": ("ACC", _RATIO),
    "wc_acc": ("WC-ACC", _RATIO),
    "anytime": ("anytime accuracy", _RATIO),
    "bwt": ("BWT", _RATIO),
    "windowed_forgetting": ("WF, windowed forgetting", _RATIO),
    "windowed_plasticity": ("WP, windowed plasticity", _RATIO),
    "ece": ("ECE at the end", _RATIO),
    "found": ("switches found", _COUNT),
    "false_alarms": ("false alarms", _COUNT),
    "delay": ("samples until a switch was found", _COUNT),
    "longest_delay": ("samples until the switch that took longest was found", _COUNT),
    "state_bytes": ("bytes of a checkpoint", ".3~s"),
}

_BAR: Final = 14  # pixels, as the next three
_LEAST: Final = 160
_GAP: Final = 80
_MARGIN: Final = 120
_OF_THE_UNTOLD: Final = {"found", "false_alarms", "delay", "longest_delay"}
"""What makes no difference to a learner that is told of the switches."""


def write_page(summaries: Sequence[Summary], path: Path) -> None:
    """Write the plots: a panel a measure with learners × scenarios, and accuracy against speed.

    A measure that no score has is left out.
    """
    scenarios = list(dict.fromkeys(summary.scenario for summary in summaries))
    shown = [name for name in _PANELS if any(s.measures[name] is not None for s in summaries)]
    titles = [*(_PANELS[name][0] for name in shown), "ACC against speed"]
    panels = len(titles) * max(_LEAST, _BAR * len(summaries)) + _GAP * (len(titles) - 1)
    figure = make_subplots(rows=len(titles), cols=1, subplot_titles=titles, vertical_spacing=_GAP / panels)
    for place, scenario in enumerate(scenarios):
        here = [summary for summary in summaries if summary.scenario == scenario]
        colour = f"hsl({round(360 * place / len(scenarios))}, 55%, 50%)"
        for row, measure in enumerate(shown, start=1):
            figure.add_trace(_bars(scenario, here, measure, colour, shows=row == 1), row=row, col=1)
        figure.add_trace(_against_speed(scenario, here, colour), row=len(titles), col=1)
    for row, measure in enumerate(shown, start=1):
        figure.update_xaxes(tickformat=_PANELS[measure][1], rangemode="tozero", row=row, col=1)
        figure.update_yaxes(autorange="reversed", row=row, col=1)
    figure.update_yaxes(tickformat=_RATIO, row=len(titles), col=1)
    figure.update_xaxes(title="samples learned a second", type="log", row=len(titles), col=1)
    figure.update_layout(
        title=f"Scoreboard: {basis(summaries)}",
        barmode="group",
        template="plotly_white",
        height=panels + 2 * _MARGIN,
        legend={
            "orientation": "h",
            "yref": "container",
            "y": 0.995,
            "yanchor": "top",
            "x": 1,
            "xanchor": "right",
        },
        margin={"t": _MARGIN, "b": _MARGIN},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.write_html(path, include_plotlyjs=True)


def _bars(scenario: str, summaries: Sequence[Summary], measure: str, colour: str, *, shows: bool) -> go.Bar:
    known = [
        (_label(s), found)
        for s in summaries
        if (found := s.measures[measure]) is not None and not (s.told and measure in _OF_THE_UNTOLD)
    ]
    return go.Bar(
        name=escape(scenario),
        orientation="h",
        y=[label for label, _ in known],
        x=[value for _, (value, _) in known],
        error_x={"type": "data", "array": [deviation or 0.0 for _, (_, deviation) in known]},
        marker_color=colour,
        legendgroup=scenario,
        showlegend=shows,
    )


def _against_speed(scenario: str, summaries: Sequence[Summary], colour: str) -> go.Scatter:
    known = [
        (_label(s), speed[0], acc[0])
        for s in summaries
        if s.learner != JOINT
        and (speed := s.measures["samples_per_second"]) is not None
        and (acc := s.measures["acc"]) is not None
    ]
    return go.Scatter(
        name=escape(scenario),
        x=[speed for _, speed, _ in known],
        y=[acc for *_, acc in known],
        text=[label for label, *_ in known],
        mode="markers+text",
        textposition="top center",
        marker={"color": colour, "size": 10},
        legendgroup=scenario,
        showlegend=False,
    )


def _label(summary: Summary) -> str:
    """Return who it is, as HTML, what it keeps, and whether it was told of the switches."""
    told = ", told" if summary.told else ""
    return f"{escape(summary.learner)}: {escape(summary.retains)}{told}"
