"""Draws the accuracy on each class over the stream as heat maps, or on the worst class of each probe."""

from collections.abc import Sequence
from html import escape
from typing import Final

from lethe.observability.result import RunResult
from lethe.report.figures import Axes, Figure, colour
from lethe.report.probe_figures import heat_rows
from lethe.report.stream_marks import stream_layout

__all__ = ["by_class", "has_classes", "worst_classes"]

ROW: Final = 15
"""Height of a row, in pixels, with at most `MAX_ROWS` classes."""
MAX_ROWS: Final = 24
"""More classes share the height of this many."""


def has_classes(run: RunResult, probes: Sequence[str]) -> bool:
    """Return whether any of ``probes`` was evaluated by class."""
    return any(point.accuracy.get(probe) for point in run.classes for probe in probes)


def by_class(run: RunResult, probe: str, axes: Axes) -> Figure:
    """Draw a row for each class in the colour of the probe: the stronger, the higher the accuracy."""
    points = [point for point in run.classes if point.accuracy.get(probe)]
    rows = max(len(point.accuracy[probe]) for point in points)  # classes may have appeared since
    columns = [row + [None] * (rows - len(row)) for row in (point.accuracy[probe] for point in points)]
    names = run.class_names[:rows] if len(run.class_names) >= rows else list(map(str, range(rows)))
    heat = {
        "type": "heatmap",
        "x": [point.samples for point in points],
        "y": list(range(len(columns[0]))),
        "z": [list(row) for row in zip(*columns, strict=True)],
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, "--card"], [1, colour(axes.probes, probe)]],
        "showscale": False,
        "ygap": 1,
        "text": [[escape(name)] * len(columns) for name in names],
        "hovertemplate": f"{escape(probe)}, class %{{text}}: %{{z:.1%}} after %{{x:,}} samples"
        "<extra></extra>",
    }
    y = {
        "autorange": "reversed",
        "showgrid": False,
        "tick0": 0,
        "dtick": 1 if rows <= MAX_ROWS else rows // 10,
        "title": {"text": "class", "font": {"size": 12, "color": "--soft"}},
    }
    if run.class_names and rows <= MAX_ROWS:
        y |= {"tickvals": list(range(rows)), "ticktext": [escape(name) for name in names]}
    height = 90 + ROW * min(rows, MAX_ROWS)
    return {"data": [heat], "layout": {**stream_layout(run, axes, y), "height": height}}


def worst_classes(run: RunResult, axes: Axes) -> Figure:
    """Draw a row for each probe: the lowest accuracy on one of its classes."""
    rows = {probe: [_lowest(point.accuracy.get(probe, [])) for point in run.classes] for probe in run.probes}
    traces, layout = heat_rows(run, axes, rows, [point.samples for point in run.classes])
    return {"data": traces, "layout": layout}


def _lowest(classes: Sequence[float | None]) -> float | None:
    return min((right for right in classes if right is not None), default=None)
