"""Builds the figures that Plotly draws, as plain data.

A colour is the name of a custom property of ``base.css``, such as ``--ink``: ``plot.js`` replaces it with its
value in the reader's theme. Plotly interprets text as HTML, so every name is escaped here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, Literal

from lethe.events import SCORES
from lethe.observability.result import EvaluationPoint, RunResult
from lethe.report.formatting import percent, points

__all__ = [
    "PALETTE",
    "RATIO",
    "Axes",
    "Figure",
    "LegendEntry",
    "accuracy",
    "calibration",
    "colour",
    "forgetting",
    "is_dashed",
    "legend",
    "line",
    "naming",
    "prequential",
    "stream_layout",
    "throughput",
]

PALETTE: Final = 8
"""Colours for probes in the style sheet, from ``--p0``; further probes reuse them, dashed."""
MAX_LABELLED_SWITCHES: Final = 12
"""With more segments than this, their starts are drawn without labels."""
RATIO: Final[Mapping[str, object]] = {"range": [0, 1.02], "tickformat": ".0%", "nticks": 6}
"""An axis of accuracies."""
DIFFERENCES: Final = tuple(name for name, info in SCORES.items() if info.kind == "difference")
"""Scores that are differences of accuracies."""

Figure = Mapping[str, object]
"""Plotly's ``data`` and ``layout``."""


@dataclass(frozen=True, slots=True)
class Axes:
    """The ranges that the panels of all learners share, so that they can be compared by eye."""

    probes: Sequence[str]
    samples: int
    samples_per_second: float
    forgetting: tuple[float, float]
    calibration: float
    changes: tuple[float, float]
    """For scores that are differences of accuracies."""

    @classmethod
    def of(cls, runs: Sequence[RunResult]) -> "Axes":
        """Return axes that cover every run."""
        lost = [value for run in runs for value in run.forgetting_by_probe.values()]
        fastest = [point.samples_per_second for run in runs for point in run.throughput]
        low, high = min([0.0, *lost]), max([0.1, *lost])
        changed = [p.scores.get(name, 0.0) for run in runs for p in run.evaluations for name in DIFFERENCES]
        room = 0.28 * (high - low)  # for the number beside the longest bar
        return cls(
            probes=list(dict.fromkeys(probe for run in runs for probe in run.probes)),
            samples=max([1, *(_last_sample(run) for run in runs)]),
            samples_per_second=max([1.0, *fastest]),
            forgetting=(low - room if low < 0 else 0.0, high + room),
            calibration=max([0.1, *(e for run in runs for p in run.evaluations for e in p.ece.values())]),
            changes=(min([-0.1, *changed]) - 0.03, max([0.1, *changed]) + 0.03),
        )


def colour(names: Sequence[str], name: str) -> str:
    """Return the colour of ``name``, one of ``names``: the same in every figure."""
    return f"--p{list(names).index(name) % PALETTE}"


def is_dashed(names: Sequence[str], name: str) -> bool:
    """Return whether ``name`` shares its colour with an earlier one, and is drawn dashed."""
    return list(names).index(name) >= PALETTE


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """What a line or a bar of a figure stands for."""

    name: str
    colour: str
    """In CSS."""
    dashed: bool = False


def legend(names: Sequence[str]) -> list[LegendEntry]:
    """Return the legend of a figure with a line or a bar for each of ``names``."""
    return [LegendEntry(name, f"var({colour(names, name)})", is_dashed(names, name)) for name in names]


def accuracy(run: RunResult, axes: Axes) -> Figure:
    """Draw the accuracy on each probe over the stream; large dots are evaluations on whole probes."""
    return _by_probe(run, axes, lambda point: point.accuracy, RATIO)


def calibration(run: RunResult, axes: Axes) -> Figure:
    """Draw the expected calibration error on each probe over the stream."""
    y = {"range": [0, 1.05 * axes.calibration], "tickformat": ".0%", "nticks": 6}
    return _by_probe(run, axes, lambda point: point.ece, y)


def _by_probe(
    run: RunResult,
    axes: Axes,
    values: Callable[[EvaluationPoint], Mapping[str, float]],
    y: Mapping[str, object],
) -> Figure:
    traces = []
    for probe in run.probes:
        seen = [point for point in run.evaluations if probe in values(point)]
        traces.append(
            line(
                [point.samples for point in seen],
                [values(point)[probe] for point in seen],
                colour(axes.probes, probe),
                name=escape(probe),
                dashed=is_dashed(axes.probes, probe),
                dots=[7 if point.full else 0 for point in seen],
                hover="%{y:.1%} after %{x:,} samples",
            )
        )
    return {"data": traces, "layout": stream_layout(run, axes, y)}


def prequential(run: RunResult, axes: Axes) -> Figure:
    """Draw the test-then-train accuracy on recent samples over the stream."""
    samples, values = zip(*((p.samples, p.accuracy) for p in run.prequential), strict=True)
    trace = line(samples, values, "--line", hover="%{y:.1%} after %{x:,} samples")
    return {"data": [trace], "layout": stream_layout(run, axes, RATIO)}


def throughput(run: RunResult, axes: Axes) -> Figure:
    """Draw the samples learned per second over the stream."""
    samples, values = zip(*((p.samples, p.samples_per_second) for p in run.throughput), strict=True)
    trace = line(samples, values, "--line", hover="%{y:,.0f} samples/s after %{x:,} samples")
    y = {"range": [0, 1.12 * axes.samples_per_second], "tickformat": "~s", "nticks": 6}
    return {"data": [trace], "layout": stream_layout(run, axes, y)}


def forgetting(run: RunResult, axes: Axes) -> Figure:
    """Draw the forgetting of each earlier probe as a bar, the first probe on top."""
    names = list(run.forgetting_by_probe)
    values = list(run.forgetting_by_probe.values())
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": [escape(name) for name in names],
        "x": values,
        "text": [points(value) for value in values],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": [colour(axes.probes, name) for name in names]},
        "hovertemplate": [
            f"{escape(n)}: {percent(v)}<extra></extra>" for n, v in run.forgetting_by_probe.items()
        ],
        "width": 0.6,
    }
    layout = {
        "height": 70 + 34 * len(names),
        "xaxis": {"range": list(axes.forgetting), "tickformat": ".0%", "nticks": 5, "zeroline": True},
        "yaxis": {"autorange": "reversed", "showgrid": False, "type": "category", "ticksuffix": " "},
        "margin": {"t": 8},
    }
    return {"data": [bars], "layout": layout}


def naming(run: RunResult) -> Literal["names", "numbers", "nothing"]:
    """Return which labels fit above the segments of a panel."""
    if len(run.switches) > MAX_LABELLED_SWITCHES:
        return "nothing"
    fits = sum(len(switch.segment) + 3 for switch in run.switches) <= 34
    return "names" if fits else "numbers"


def line(
    x: Sequence[float],
    y: Sequence[float | None],
    color: str,
    *,
    hover: str,
    name: str = "",
    dashed: bool = False,
    dots: Sequence[int] | None = None,
) -> Figure:
    """Return a line trace; it has a gap if ``y`` is None."""
    return {
        "type": "scatter",
        "mode": "lines" if dots is None else "lines+markers",
        "x": list(x),
        "y": list(y),
        "name": name,
        "line": {"color": color, "width": 2.25, "dash": "dash" if dashed else "solid"},
        "marker": {"color": color, "size": dots, "opacity": 1, "line": {"width": 0}},
        "cliponaxis": False,  # the last dot sits on the edge
        "hovertemplate": f"{name}{': ' if name else ''}{hover}<extra></extra>",
    }


def stream_layout(run: RunResult, axes: Axes, y: Mapping[str, object]) -> Mapping[str, object]:
    """Return a layout over the samples learned, with segment switches and detected boundaries."""
    return {
        "height": 290,
        "xaxis": {
            "range": [0, axes.samples],
            "tickformat": "~s",
            "nticks": 5,
            "title": {"text": "samples learned"},
        },
        "yaxis": y,
        "shapes": [
            *(_switch(switch.samples) for switch in run.switches if switch.samples > 0),
            *(_detected(boundary.samples) for boundary in run.boundaries.detected),
        ],
        "annotations": list(_segment_names(run)),
    }


def _detected(samples: int) -> Mapping[str, object]:
    """Return a tick at the bottom for a detected boundary."""
    line = {"color": "--ink", "width": 2}
    return {"type": "line", "yref": "paper", "x0": samples, "x1": samples, "y0": 0, "y1": 0.06, "line": line}


def _switch(samples: int) -> Mapping[str, object]:
    line = {"color": "--soft", "width": 1.25, "dash": "dot"}
    return {"type": "line", "yref": "paper", "x0": samples, "x1": samples, "y0": 0, "y1": 1.09, "line": line}


def _segment_names(run: RunResult) -> Iterable[Mapping[str, object]]:
    written = naming(run)
    if written == "nothing" or not run.switches:
        return
    ends = [*(switch.samples for switch in run.switches[1:]), _last_sample(run)]
    for visit, (switch, end) in enumerate(zip(run.switches, ends, strict=True), start=1):
        yield {
            "x": (switch.samples + end) / 2,
            "y": 1.02,
            "yref": "paper",
            "yanchor": "bottom",
            "showarrow": False,
            "text": escape(switch.segment) if written == "names" else str(visit),
            "font": {"color": "--soft", "size": 12},
        }


def _last_sample(run: RunResult) -> int:
    return max([run.samples.learned, *(point.samples for point in run.evaluations)])
