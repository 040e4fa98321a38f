"""Draws what was measured on each probe: curves, or a heat map for more probes than there are colours."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, Final

from lethe.observability.result import EvaluationPoint, RunResult
from lethe.report.figures import PALETTE, RATIO, Axes, Figure, colour, line
from lethe.report.formatting import percent, points
from lethe.report.stream_marks import stream_layout, with_timeline
from lethe.report.vital_signs import LOST

__all__ = ["accuracy", "calibration", "forgetting", "heat_rows", "is_crowded"]

ROW: Final = 18
"""Height of a row of a heat map, in pixels."""


def is_crowded(probes: Sequence[str]) -> bool:
    """Return whether there are more probes than colours, so that they are drawn as rows, not as curves."""
    return len(probes) > PALETTE


def accuracy(run: RunResult, axes: Axes) -> Figure:
    """Draw the accuracy on each probe over the stream, above a timeline of the segments.

    Large dots are evaluations on whole probes.
    """
    traces, layout = _by_probe(run, axes, lambda point: point.accuracy, RATIO, 1.0, labelled=False)
    return with_timeline(run, axes, traces, layout)


def calibration(run: RunResult, axes: Axes) -> Figure:
    """Draw the expected calibration error on each probe over the stream."""
    y = {"range": [0, 1.05 * axes.calibration], "tickformat": ".0%", "nticks": 6}
    traces, layout = _by_probe(run, axes, lambda point: point.ece, y, axes.calibration)
    return {"data": traces, "layout": layout}


def forgetting(run: RunResult, axes: Axes) -> Figure:
    """Draw the forgetting of each earlier probe as a bar, the first probe on top.

    Dashed lines are the sampling noise, and the limits at which the dashboards turn orange and red.
    """
    names = list(run.forgetting_by_probe)
    values = list(run.forgetting_by_probe.values())
    crowded = is_crowded(axes.probes)
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": [escape(name) for name in names],
        "x": values,
        "marker": {"color": ["--p0" if crowded else colour(axes.probes, name) for name in names]},
        "hovertemplate": [
            f"{escape(name)}: {percent(lost)}{_noise(run, name)}<extra></extra>"
            for name, lost in run.forgetting_by_probe.items()
        ],
        "width": 0.6,
    }
    limits = [(LOST.doubtful, "--pause"), (LOST.bad, "--bad")]
    noise = max((run.noise[name] for name in names if name in run.noise), default=0.0)
    if noise > 0:
        limits.insert(0, (noise, "--soft"))
    layout = {
        "height": 70 + (22 if crowded else 34) * len(names),
        "xaxis": {"range": list(axes.forgetting), "tickformat": ".0%", "nticks": 5, "zeroline": True},
        "yaxis": {"autorange": "reversed", "showgrid": False, "type": "category", "ticksuffix": " "},
        "margin": {"t": 8, "r": 60},
        "annotations": [_at_the_end(name, points(lost)) for name, lost in run.forgetting_by_probe.items()],
        "shapes": [_limit(value, shade) for value, shade in limits],
    }
    return {"data": [bars], "layout": layout}


def _at_the_end(name: str, text: str) -> Figure:
    """Return a number to the right of a bar's row, where no line crosses it."""
    return {
        "x": 1,
        "xref": "paper",
        "xanchor": "left",
        "y": escape(name),
        "showarrow": False,
        "text": text,
        "font": {"size": 13, "color": "--ink"},
    }


def _noise(run: RunResult, probe: str) -> str:
    return f" ± {percent(run.noise[probe])}" if probe in run.noise else ""


def _limit(value: float, color: str) -> Figure:
    line = {"color": color, "width": 1, "dash": "dash"}
    return {
        "type": "line",
        "yref": "paper",
        "x0": value,
        "x1": value,
        "y0": 0,
        "y1": 1,
        "line": line,
        "layer": "below",
    }


def heat_rows(
    run: RunResult,
    axes: Axes,
    rows: Mapping[str, Sequence[float | None]],
    samples: Sequence[int],
    most: float = 1.0,
    *,
    labelled: bool = True,
) -> tuple[Sequence[Figure], Mapping[str, Any]]:
    """Return the trace and the layout of a heat map with a row for each probe.

    The scale is neutral: the stronger, the higher the value, up to ``most``.
    """
    heat = {
        "type": "heatmap",
        "x": list(samples),
        "y": [escape(probe) for probe in rows],
        "z": [list(values) for values in rows.values()],
        "zmin": 0,
        "zmax": most,
        "colorscale": [[0, "--card"], [1, "--p0"]],
        "showscale": False,
        "ygap": 1,
        "hovertemplate": "%{y}: %{z:.1%} after %{x:,} samples<extra></extra>",
    }
    y = {"autorange": "reversed", "showgrid": False, "type": "category", "dtick": 1, "ticksuffix": " "}
    layout = stream_layout(run, axes, y, labelled=labelled)
    return [heat], {**layout, "height": 90 + ROW * len(rows)}


def _by_probe(
    run: RunResult,
    axes: Axes,
    values: Callable[[EvaluationPoint], Mapping[str, float]],
    y: Mapping[str, object],
    most: float,
    *,
    labelled: bool = True,
) -> tuple[Sequence[Figure], Mapping[str, Any]]:
    """Return a curve for each probe, or a row if they are crowded, and the layout."""
    if is_crowded(axes.probes):
        rows = {probe: [values(point).get(probe) for point in run.evaluations] for probe in run.probes}
        samples = [point.samples for point in run.evaluations]
        return heat_rows(run, axes, rows, samples, most, labelled=labelled)
    traces = []
    for probe in run.probes:
        seen = [point for point in run.evaluations if probe in values(point)]
        traces.append(
            line(
                [point.samples for point in seen],
                [values(point)[probe] for point in seen],
                colour(axes.probes, probe),
                name=escape(probe),
                dots=[7 if point.full else 0 for point in seen],
                hover="%{y:.1%} after %{x:,} samples",
                steps=True,
            )
        )
    return traces, stream_layout(run, axes, y, labelled=labelled)
