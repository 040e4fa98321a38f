"""Draws the accuracy on each class of a probe over the stream as a heat map."""

from html import escape
from typing import Final

from lethe.observability.result import RunResult
from lethe.report.figures import Axes, Figure, colour, stream_layout

__all__ = ["by_class"]

ROW: Final = 15
"""Height of a row, in pixels, with at most `MAX_ROWS` classes."""
MAX_ROWS: Final = 24
"""More classes share the height of this many."""


def by_class(run: RunResult, probe: str, axes: Axes) -> Figure:
    """Draw a row for each class in the colour of the probe: the stronger, the higher the accuracy."""
    points = [point for point in run.classes if point.accuracy.get(probe)]
    columns = [point.accuracy[probe] for point in points]
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
        "hovertemplate": f"{escape(probe)}, class %{{y}}: %{{z:.1%}} after %{{x:,}} samples<extra></extra>",
    }
    rows = len(columns[0])
    y = {
        "autorange": "reversed",
        "showgrid": False,
        "tick0": 0,
        "dtick": 1 if rows <= MAX_ROWS else rows // 10,
        "title": {"text": "class", "font": {"size": 12, "color": "--soft"}},
    }
    height = 90 + ROW * min(rows, MAX_ROWS)
    return {"data": [heat], "layout": {**stream_layout(run, axes, y), "height": height}}
