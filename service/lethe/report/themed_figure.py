"""A figure of the report on its own, with the colours of its style sheet: for a notebook."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from lethe.files.html.templates import read_asset
from lethe.observability.result import RunResult
from lethe.report import probe_figures, score_curves, stream_figures
from lethe.report.figures import Axes, Figure

__all__ = ["FIGURES", "themed_figure"]

FIGURES: Final[Mapping[str, tuple[Callable[[RunResult], bool], Callable[[RunResult, Axes], Figure]]]] = {
    "accuracy": (lambda run: bool(run.probes and run.evaluations), probe_figures.accuracy),
    "forgetting": (lambda run: bool(run.forgetting_by_probe), probe_figures.forgetting),
    "levels": (score_curves.has_curves, score_curves.levels),
    "changes": (score_curves.has_curves, score_curves.changes),
    "prequential": (lambda run: bool(run.prequential), stream_figures.prequential),
}
"""By kind: whether a run has data for it, and how it is drawn."""
_AXIS: Final = {"gridcolor": "--grid", "zerolinecolor": "--soft", "zeroline": False, "automargin": True}
_TOP: Final = 28
"""Pixels above a figure without a legend."""
_LEGEND: Final = {"orientation": "h", "yanchor": "bottom", "y": 1.08, "x": 0}
_DECLARATION: Final = re.compile(r"(--[\w-]+):\s*([^;]+);")


def themed_figure(run: RunResult, kind: str, *, dark: bool) -> dict[str, Any]:
    """Return ``data`` and ``layout`` for Plotly, with the legend that the report writes beside a figure.

    Raises ValueError for an unknown kind, and for one of which the run has no data.
    """
    if kind not in FIGURES:
        raise ValueError(f"kind {kind!r}: the kinds of figures are {', '.join(FIGURES)}")
    has_data, draw = FIGURES[kind]
    if not has_data(run):
        raise ValueError(f"nothing to draw: {kind} was not measured in this run")
    figure: Mapping[str, Any] = draw(run, Axes.of([run]))
    own = figure["layout"]
    named = [trace for trace in figure["data"] if trace.get("type") == "scatter" and trace.get("name")]
    layout = {
        **own,
        "height": own["height"] + (60 if named else 0),
        "showlegend": bool(named),
        "legend": _LEGEND,
        "hovermode": "closest",
        "margin": {"l": 8, "r": 16, "t": _TOP + (60 if named else 0), "b": 8, **own.get("margin", {})},
        "paper_bgcolor": "--paper",
        "plot_bgcolor": "--paper",
        "font": {"color": "--ink", "size": 13},
        "hoverlabel": {"bgcolor": "--paper", "bordercolor": "--soft", "font": {"color": "--ink"}},
        "xaxis": {**_AXIS, **own["xaxis"]},
        "yaxis": {**_AXIS, **own["yaxis"]},
    }
    theme = _themes()[dark]
    return {"data": _coloured(figure["data"], theme), "layout": _coloured(layout, theme)}


@cache
def _themes() -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return the custom properties of the light and of the dark theme."""
    light, _, rest = read_asset("files/html/base.css").partition("@media (prefers-color-scheme: dark)")
    of_light = dict(_DECLARATION.findall(light))
    return of_light, of_light | dict(_DECLARATION.findall(rest.partition("}")[0]))


def _coloured(value: Any, theme: Mapping[str, str]) -> Any:
    """Return ``value`` with each name of a custom property replaced by the property's value."""
    if isinstance(value, str):
        return theme[value] if value.startswith("--") else value
    if isinstance(value, Mapping):
        return {key: _coloured(item, theme) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_coloured(item, theme) for item in value]
    return value
