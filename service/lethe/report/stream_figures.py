"""Draws what was measured on the stream itself: accuracy before learning, and throughput."""

from lethe.observability.result import RunResult
from lethe.report.figures import RATIO, Axes, Figure, line
from lethe.report.formatting import percent
from lethe.report.stream_marks import stream_layout

__all__ = ["prequential", "throughput"]


def prequential(run: RunResult, axes: Axes) -> Figure:
    """Draw the test-then-train accuracy on recent samples over the stream, and the accuracy of guessing."""
    samples, values = zip(*((p.samples, p.accuracy) for p in run.prequential), strict=True)
    trace = line(samples, values, "--line", hover="%{y:.1%} after %{x:,} samples")
    layout = stream_layout(run, axes, RATIO)
    if run.chance_accuracy is None:
        return {"data": [trace], "layout": layout}
    chance = {
        "type": "scatter",
        "mode": "lines+text",
        "x": [0, axes.samples],
        "y": [run.chance_accuracy] * 2,
        "line": {"color": "--soft", "width": 1, "dash": "dash"},
        "text": ["", "chance"],
        "textposition": "top left",
        "textfont": {"color": "--soft", "size": 12},
        "hovertemplate": f"chance: {percent(run.chance_accuracy)}<extra></extra>",
    }
    return {"data": [chance, trace], "layout": layout}


def throughput(run: RunResult, axes: Axes) -> Figure:
    """Draw the samples learned per second over the stream."""
    samples, values = zip(*((p.samples, p.samples_per_second) for p in run.throughput), strict=True)
    trace = line(samples, values, "--line", hover="%{y:,.0f} samples/s after %{x:,} samples")
    y = {"range": [0, 1.12 * axes.samples_per_second], "tickformat": "~s", "nticks": 6}
    return {"data": [trace], "layout": stream_layout(run, axes, y)}
