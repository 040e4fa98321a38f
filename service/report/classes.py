"""Class by class: what a learner knows of each class of a probe over the stream, as a heat map.

A mean over all classes may stay high while one of them is gone.
"""

from html import escape
from typing import Final

from service.report.figures import Axes, Figure, colour, over_the_stream
from service.result import RunResult

__all__ = ["by_class"]

ROW: Final = 15
"""Pixels that a class is high, where there are not too many."""
MOST_ROWS: Final = 24
"""More classes than this share the height of so many."""


def by_class(run: RunResult, probe: str, axes: Axes) -> Figure:
    """A row a class, coloured as the probe is and the more, the more of the class is known."""
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
        "dtick": 1 if rows <= MOST_ROWS else rows // 10,
        "title": {"text": "class", "font": {"size": 12, "color": "--soft"}},
    }
    height = 90 + ROW * min(rows, MOST_ROWS)
    return {"data": [heat], "layout": {**over_the_stream(run, axes, y), "height": height}}
