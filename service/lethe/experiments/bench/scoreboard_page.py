"""Writes the scoreboard as one HTML file that needs no network: every measure, and accuracy against speed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from lethe.events import SCORES
from lethe.experiments.bench.scores import JOINT, MEASURES, Summary, basis
from lethe.files.html.templates import render
from lethe.report import figures
from lethe.report.figures import Figure
from lethe.report.page import SECURITY_POLICY
from lethe.report.plotly_script import plotly_script

__all__ = ["write_page"]

_RATIO: Final = ".0%"
_COUNT: Final = ",.3~f"
_PANELS: Final = {
    **{
        key: (f"{SCORES[name].label}: {SCORES[name].brief}", _RATIO)
        for key, name in MEASURES.items()
        if name in SCORES
    },
    "found": ("switches detected", _COUNT),
    "false_alarms": ("false alarms", _COUNT),
    "delay": ("mean samples from a switch to its detection", _COUNT),
    "longest_delay": ("most samples from a switch to its detection", _COUNT),
    "state_bytes": ("bytes of a checkpoint", ".3~s"),
}
"""Title and number format of each measure that is drawn."""
_SPEED: Final = "speed"

_BAR: Final = 16
"""Height of a bar, in pixels."""
_AXIS: Final = 60
"""Height of a panel without its bars, in pixels."""
_OF_DETECTION: Final = {"found", "false_alarms", "delay", "longest_delay"}
"""Measures of boundary detection, which a learner does not depend on that is given the switches."""


@dataclass(frozen=True, slots=True)
class _Scenario:
    name: str
    colour: str
    hatched: bool
    """Whether it shares its colour with another one."""
    summaries: Sequence[Summary]


@dataclass(frozen=True, slots=True)
class _Panel:
    id: str
    title: str


def write_page(summaries: Sequence[Summary], path: Path) -> None:
    """Write a panel for each measure that some summary has, and one of accuracy against speed."""
    names = list(dict.fromkeys(summary.scenario for summary in summaries))
    scenarios = [
        _Scenario(
            name,
            figures.colour(names, name),
            figures.is_dashed(names, name),
            [summary for summary in summaries if summary.scenario == name],
        )
        for name in names
    ]
    shown = [name for name in _PANELS if any(summary.measures[name] is not None for summary in summaries)]
    document = render(
        "experiments/bench/scoreboard.html.jinja",
        security_policy=SECURITY_POLICY,
        basis=basis(summaries).capitalize(),
        scenarios=figures.legend(names),
        panels=[
            *(_Panel(name, _PANELS[name][0]) for name in shown),
            _Panel(_SPEED, f"{SCORES['acc'].label} against speed"),
        ],
        figures={**{name: _bars(name, scenarios) for name in shown}, _SPEED: _against_speed(scenarios)},
        plotly=plotly_script(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document, encoding="utf-8")


def _bars(measure: str, scenarios: Sequence[_Scenario]) -> Figure:
    """Draw a bar for each learner and scenario, with the standard deviation."""
    traces = [_scenario_bars(measure, scenario) for scenario in scenarios]
    layout = {
        "barmode": "group",
        "height": _AXIS + max(100, _BAR * sum(len(scenario.summaries) for scenario in scenarios)),
        "xaxis": {"tickformat": _PANELS[measure][1], "rangemode": "tozero", "zeroline": True},
        "yaxis": {"autorange": "reversed", "showgrid": False, "type": "category", "ticksuffix": " "},
        "margin": {"t": 8},
    }
    return {"data": traces, "layout": layout}


def _scenario_bars(measure: str, scenario: _Scenario) -> Mapping[str, object]:
    known = [
        (_label(summary), spread)
        for summary in scenario.summaries
        if (spread := summary.measures[measure]) is not None
        and not (summary.given_boundaries and measure in _OF_DETECTION)
    ]
    return {
        "type": "bar",
        "name": escape(scenario.name),
        "orientation": "h",
        "y": [label for label, _ in known],
        "x": [mean for _, (mean, _) in known],
        "error_x": {
            "type": "data",
            "array": [deviation or 0.0 for _, (_, deviation) in known],
            "color": "--soft",
        },
        "marker": {"color": scenario.colour, "pattern": {"shape": "/" if scenario.hatched else ""}},
    }


def _against_speed(scenarios: Sequence[_Scenario]) -> Figure:
    layout = {
        "height": 520,
        "xaxis": {"type": "log", "title": {"text": "samples learned per second"}},
        "yaxis": {"tickformat": _RATIO},
    }
    return {"data": [_speed_points(scenario) for scenario in scenarios], "layout": layout}


def _speed_points(scenario: _Scenario) -> Mapping[str, object]:
    known = [
        (_label(summary), speed[0], acc[0])
        for summary in scenario.summaries
        if summary.learner != JOINT
        and (speed := summary.measures["samples_per_second"]) is not None
        and (acc := summary.measures["acc"]) is not None
    ]
    return {
        "type": "scatter",
        "name": escape(scenario.name),
        "x": [speed for _, speed, _ in known],
        "y": [acc for *_, acc in known],
        "text": [label for label, *_ in known],
        "mode": "markers+text",
        "textposition": "top center",
        "textfont": {"color": "--ink", "size": 12},
        "cliponaxis": False,
        "marker": {"color": scenario.colour, "size": 10},
    }


def _label(summary: Summary) -> str:
    """Return the learner and what it retains, as HTML, and whether it was given the switches."""
    given = ", switches given" if summary.given_boundaries else ""
    return f"{escape(summary.learner)}: {escape(summary.retains)}{given}"
