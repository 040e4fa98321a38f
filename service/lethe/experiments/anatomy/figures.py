"""Draws the figures of the anatomy, as plain data for Plotly; colours are names of the style sheet."""

from collections.abc import Mapping, Sequence
from html import escape
from math import log10
from statistics import mean, stdev
from typing import Final

from lethe.experiments.anatomy.dissection import Dissection, Portrait, Theory
from lethe.experiments.anatomy.line import Line
from lethe.report.figures import RATIO, Figure, line
from lethe.report.formatting import number

__all__ = [
    "NEW_PART",
    "OLD_PART",
    "accuracy_over",
    "contour",
    "curves",
    "flow",
    "grouped",
    "histogram",
    "landscape",
    "path_across",
    "path_only",
    "theory",
]

_FLOOR: Final = 1e-3
"""Losses below this have the colour of this one: the logarithm of 0 has none."""
_RISE: Final = [[0, "--card"], [1, "--heat-full"]]
OLD_PART: Final = "--p2"
NEW_PART: Final = "--p7"
"""Colours of the path before and after the switch."""


def _level(loss: float) -> float:
    return log10(max(_FLOOR, loss))


def contour(portrait: Portrait, probe: str, switch: int, top: float) -> Figure:
    """Draw the loss on ``probe`` as contours of its logarithm up to ``top``, with the path upon it."""
    surface = portrait.surface
    heat = {
        "type": "contour",
        "x": surface.xs,
        "y": surface.ys,
        "z": [[min(top, _level(loss)) for loss in row] for row in surface.loss[probe]],
        "customdata": [
            [[loss, accuracy] for loss, accuracy in zip(*rows, strict=True)]
            for rows in zip(surface.loss[probe], surface.accuracy[probe], strict=True)
        ],
        "colorscale": [[0, "--heat-full"], [1, "--card"]],
        "contours": {"coloring": "heatmap"},
        "ncontours": 14,
        "line": {"color": "--grid", "width": 1},
        "showscale": False,
        "hovertemplate": f"{escape(probe)}: loss %{{customdata[0]:.3f}}, accuracy %{{customdata[1]:.1%}}"
        "<extra></extra>",
    }
    return {
        "data": [heat, *_walk(portrait.path, switch)],
        "layout": {
            "height": 340,
            "xaxis": {"title": {"text": "along θ_A → θ_B"}, "showgrid": False},
            "yaxis": {"showgrid": False, "scaleanchor": "x"},
            "margin": {"t": 8},
        },
    }


def _walk(path: Sequence[tuple[float, float]], switch: int) -> list[Figure]:
    """Return the path's two parts, and the points at which it begins, switches and ends."""
    old, new = path[: switch + 1], path[switch:]
    traces: list[Figure] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": [x for x, _ in part],
            "y": [y for _, y in part],
            "line": {"color": colour, "width": 2},
            "marker": {"color": colour, "size": 4},
            "hoverinfo": "skip",
        }
        for part, colour in ((old, OLD_PART), (new, NEW_PART))
    ]
    marks = [(path[0], "start"), (path[switch], "A"), (path[-1], "B")]
    traces.append(
        {
            "type": "scatter",
            "mode": "markers+text",
            "x": [x for (x, _), _ in marks],
            "y": [y for (_, y), _ in marks],
            "text": [name for _, name in marks],
            "textposition": "top center",
            "textfont": {"color": "--ink", "size": 14},
            "cliponaxis": False,  # a label above a point at the edge
            "marker": {"color": "--ink", "size": 8},
            "hoverinfo": "skip",
        }
    )
    return traces


def landscape(portrait: Portrait, probe: str, switch: int, top: float) -> Figure:
    """Draw the surface of ``probe`` in three dimensions, with the path at the loss that it really has."""
    surface = portrait.surface
    solid = {
        "type": "surface",
        "x": surface.xs,
        "y": surface.ys,
        "z": [[min(top, _level(loss)) for loss in row] for row in surface.loss[probe]],
        "colorscale": [[0, "--heat-full"], [1, "--card"]],
        "showscale": False,
        "opacity": 0.9,
        "hovertemplate": "log₁₀ loss %{z:.2f}<extra></extra>",
    }
    heights = [min(top, _level(loss)) for loss in portrait.path_loss[probe]]
    parts = ((slice(None, switch + 1), OLD_PART), (slice(switch, None), NEW_PART))
    walk = [
        {
            "type": "scatter3d",
            "mode": "lines+markers",
            "x": [x for x, _ in portrait.path[part]],
            "y": [y for _, y in portrait.path[part]],
            "z": heights[part],
            "line": {"color": colour, "width": 6},
            "marker": {"color": colour, "size": 3},
            "hovertemplate": "log₁₀ loss %{z:.2f}<extra></extra>",
        }
        for part, colour in parts
    ]
    axis = {"color": "--soft", "gridcolor": "--grid", "title": {"text": ""}, "showbackground": False}
    return {
        "data": [solid, *walk],
        "layout": {
            "height": 420,
            "margin": {"t": 0},
            "xaxis": {},
            "scene": {
                "dragmode": "orbit",
                "xaxis": axis,
                "yaxis": axis,
                "zaxis": {**axis, "title": {"text": "log₁₀ loss"}},
                "camera": {"eye": {"x": 1.3, "y": -1.5, "z": 0.9}},
            },
        },
    }


def path_across(path: Sequence[tuple[float, float]], switch: int) -> Figure:
    """Draw a path across a switch by its points alone, in the plane of their principal components."""
    return {
        "data": _walk(path, switch),
        "layout": {
            "height": 340,
            "xaxis": {"title": {"text": "first principal component"}},
            "yaxis": {"scaleanchor": "x"},
            "margin": {"t": 20},
        },
    }


def path_only(path: Sequence[tuple[float, float]], samples: Sequence[int]) -> Figure:
    """Draw a path by its points alone, each with the samples learned until there."""
    trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [x for x, _ in path],
        "y": [y for _, y in path],
        "line": {"color": "--p0", "width": 2},
        "marker": {"color": "--p0", "size": 6},
        "text": [f"{number(count)} samples" for count in samples],
        "hovertemplate": "%{text}<extra></extra>",
    }
    ends = [
        {
            "x": path[place][0],
            "y": path[place][1],
            "text": number(samples[place]),
            "showarrow": False,
            "yshift": 14,
            "font": {"color": "--ink", "size": 12},
        }
        for place in dict.fromkeys((0, len(path) - 1))
    ]
    return {
        "data": [trace],
        "layout": {
            "height": 360,
            "xaxis": {"title": {"text": "first principal component"}},
            "yaxis": {"scaleanchor": "x"},
            "annotations": ends,
            "margin": {"t": 20},
        },
    }


def curves(
    by_name: Mapping[str, tuple[str, Sequence[Sequence[float]]]],
    x: Sequence[float | str],
    hover: str,
    y: Mapping[str, object],
    title: str,
) -> Figure:
    """Draw a line for each name: the mean over its seeds, with the standard deviation as bars."""
    traces = []
    for name, (colour, seeds) in by_name.items():
        columns = list(zip(*seeds, strict=True))
        drawn = dict(
            line(
                [],
                [mean(column) for column in columns],
                colour,
                hover=hover,
                name=escape(name),
                dots=[6] * len(x),
            )
        )
        drawn["x"] = list(x)
        if len(seeds) > 1:
            deviations = [stdev(column) for column in columns]
            drawn["error_y"] = {"type": "data", "array": deviations, "color": colour, "thickness": 1}
        traces.append(drawn)
    layout = {"height": 300, "xaxis": {"title": {"text": title}}, "yaxis": y, "margin": {"t": 12}}
    return {"data": traces, "layout": layout}


def theory(line_: Line, found: Theory, colour: str) -> Figure:
    """Draw the loss along the line as measured, and by the quadratic approximation at its beginning."""
    predicted = [found.along.at(alpha) for alpha in line_.alphas]
    hover = "loss %{y:.3f} at α = %{x:.2f}"
    traces = [
        line(line_.alphas, line_.loss, colour, hover=hover, name="measured"),
        line(line_.alphas, predicted, "--soft", hover=hover, name="predicted", dashed=True),
    ]
    layout = {
        "height": 280,
        "xaxis": {"title": {"text": "α, from θ_A to θ_B"}},
        "yaxis": {"rangemode": "tozero"},
        "margin": {"t": 12},
    }
    return {"data": traces, "layout": layout}


def grouped(
    names: Sequence[str], kinds: Sequence[tuple[str, str, Sequence[tuple[float, float | None]]]]
) -> Figure:
    """Draw a group of bars for each name; a kind is (title, colour, mean and deviation of each name)."""
    bars = [
        {
            "type": "bar",
            "orientation": "h",
            "name": title,
            "y": [escape(name) for name in names],
            "x": [middle for middle, _ in values],
            "error_x": {
                "type": "data",
                "array": [deviation or 0.0 for _, deviation in values],
                "color": "--ink",
                "thickness": 1,
            },
            "marker": {"color": bar_colour},
            "hovertemplate": f"{title}: %{{x:.1%}}<extra></extra>",
        }
        for title, bar_colour, values in kinds
    ]
    layout = {
        "barmode": "group",
        "height": 80 + 66 * len(names),
        "xaxis": {"tickformat": ".0%", "zeroline": True},
        "yaxis": {"autorange": "reversed", "showgrid": False, "type": "category", "ticksuffix": " "},
        "margin": {"t": 8},
    }
    return {"data": bars, "layout": layout}


def histogram(found: Dissection, colour: str) -> Figure:
    """Draw how many samples were forgotten how often."""
    events = found.forgotten.events.samples
    bars = {
        "type": "bar",
        "x": list(events),
        "y": list(events.values()),
        "marker": {"color": colour},
        "hovertemplate": "%{y} samples with %{x} events<extra></extra>",
    }
    layout = {
        "height": 230,
        "xaxis": {"title": {"text": "forgetting events of a sample"}, "dtick": 1},
        "yaxis": {},
        "margin": {"t": 8},
    }
    return {"data": [bars], "layout": layout}


def flow(matrix: Sequence[Sequence[int]], old: Sequence[str], new: Sequence[str]) -> Figure:
    """Draw as which class the images of each old class are predicted, in shares of the old class."""
    kept = [place for place, row in enumerate(matrix) if sum(row)]
    shares = [[count / sum(matrix[place]) for count in matrix[place]] for place in kept]
    heat = {
        "type": "heatmap",
        "x": [escape(name) for name in new],
        "y": [escape(old[place]) for place in kept],
        "z": shares,
        "text": [[f"{share:.0%}" if share >= 0.1 else "" for share in row] for row in shares],
        "texttemplate": "%{text}",
        "textfont": {"size": 11, "color": "--ink"},
        "zmin": 0,
        "zmax": 1,
        "colorscale": _RISE,
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "hovertemplate": "%{y} is predicted as %{x}: %{z:.1%}<extra></extra>",
    }
    layout = {
        "height": 130 + 24 * len(kept),
        "xaxis": {"showgrid": False, "type": "category", "tickangle": -50},
        "yaxis": {"autorange": "reversed", "showgrid": False, "type": "category", "ticksuffix": " "},
        "margin": {"t": 8},
    }
    return {"data": [heat], "layout": layout}


def accuracy_over(found: Dissection, colour: str) -> Figure:
    """Draw the accuracy on the old probe at each recorded point."""
    since = found.samples[found.switch]
    shape = {
        "type": "line",
        "yref": "paper",
        "x0": since,
        "x1": since,
        "y0": 0,
        "y1": 1,
        "line": {"color": "--soft", "width": 1.25, "dash": "dot"},
    }
    trace = line(
        found.samples,
        found.accuracy,
        colour,
        hover="%{y:.1%} after %{x:,} samples",
        dots=[5] * len(found.samples),
    )
    layout = {
        "height": 260,
        "xaxis": {"title": {"text": "samples learned"}, "tickformat": "~s"},
        "yaxis": RATIO,
        "shapes": [shape],
        "margin": {"t": 12},
    }
    return {"data": [trace], "layout": layout}
