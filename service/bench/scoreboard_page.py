"""The scoreboard as one HTML file that needs no network: accuracy, and what it costs."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from service.bench.scores import JOINT, Summary

__all__ = ["write_page"]

_PANELS: Final = {
    "acc": "ACC",
    "wc_acc": "WC-ACC",
    "anytime": "anytime accuracy",
    "bwt": "BWT",
    "windowed_forgetting": "WF, windowed forgetting",
    "windowed_plasticity": "WP, windowed plasticity",
    "ece": "ECE at the end",
}


def write_page(summaries: Sequence[Summary], path: Path) -> None:
    """Write the plots: a panel a measure with learners × scenarios, and accuracy against speed.

    A measure that no score has is left out.
    """
    scenarios = list(dict.fromkeys(summary.scenario for summary in summaries))
    shown = [name for name in _PANELS if any(s.measures[name] is not None for s in summaries)]
    titles = [*(_PANELS[name] for name in shown), "ACC against speed"]
    figure = make_subplots(
        rows=len(titles), cols=1, subplot_titles=titles, vertical_spacing=0.3 / len(titles)
    )
    for place, scenario in enumerate(scenarios):
        here = [summary for summary in summaries if summary.scenario == scenario]
        colour = f"hsl({round(360 * place / len(scenarios))}, 55%, 50%)"
        for row, measure in enumerate(shown, start=1):
            figure.add_trace(_bars(scenario, here, measure, colour, shows=row == 1), row=row, col=1)
        figure.add_trace(_against_speed(scenario, here, colour), row=len(titles), col=1)
    figure.update_yaxes(tickformat=".0%")
    figure.update_xaxes(title="samples learned a second", type="log", row=len(titles), col=1)
    figure.update_layout(
        title=f"Scoreboard: mean ± standard deviation over {max(s.seeds for s in summaries)} seeds",
        barmode="group",
        template="plotly_white",
        height=320 * len(titles),
        legend={"orientation": "h", "y": 1.03},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.write_html(path, include_plotlyjs=True)


def _bars(scenario: str, summaries: Sequence[Summary], measure: str, colour: str, *, shows: bool) -> go.Bar:
    known = [(s.learner, found) for s in summaries if (found := s.measures[measure]) is not None]
    return go.Bar(
        name=escape(scenario),
        x=[escape(learner) for learner, _ in known],
        y=[value for _, (value, _) in known],
        error_y={"type": "data", "array": [deviation or 0.0 for _, (_, deviation) in known]},
        marker_color=colour,
        legendgroup=scenario,
        showlegend=shows,
    )


def _against_speed(scenario: str, summaries: Sequence[Summary], colour: str) -> go.Scatter:
    known = [
        (s.learner, speed[0], acc[0])
        for s in summaries
        if s.learner != JOINT
        and (speed := s.measures["samples_per_second"]) is not None
        and (acc := s.measures["acc"]) is not None
    ]
    return go.Scatter(
        name=escape(scenario),
        x=[speed for _, speed, _ in known],
        y=[acc for *_, acc in known],
        text=[escape(learner) for learner, *_ in known],
        mode="markers+text",
        textposition="top center",
        marker={"color": colour, "size": 10},
        legendgroup=scenario,
        showlegend=False,
    )
