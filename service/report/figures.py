"""What Plotly draws, as plain data.

A colour is the name of a custom property of ``style.css`` (``--ink``): the page's script puts
the value of the reader's theme in its place. Plotly reads its texts as HTML, so every name is
escaped here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, Literal

from service.report.words import percent, points
from service.result import EvaluationPoint, RunResult

__all__ = [
    "PALETTE",
    "RATIO",
    "Axes",
    "Figure",
    "accuracy",
    "calibration",
    "colour",
    "forgetting",
    "is_dashed",
    "line",
    "naming",
    "over_the_stream",
    "prequential",
    "throughput",
]

PALETTE: Final = 8
"""Colours for probes in the style sheet, ``--p0`` and on; a ninth probe starts over, dashed."""
MOST_SWITCHES_NAMED: Final = 12
"""With more segments than this, their starts are lines without labels."""
RATIO: Final[Mapping[str, object]] = {"range": [0, 1.02], "tickformat": ".0%", "nticks": 6}
"""An axis of accuracies."""
DIFFERENCES: Final = ("bwt", "fwt", "forgetting", "windowed_forgetting", "windowed_plasticity")
"""Scores that are differences of accuracies."""

Figure = Mapping[str, object]
"""Plotly's ``data`` and ``layout``."""


@dataclass(frozen=True, slots=True)
class Axes:
    """What the panels of several learners share, so that they can be compared by eye."""

    probes: Sequence[str]
    samples: int
    samples_per_second: float
    forgetting: tuple[float, float]
    calibration: float
    changes: tuple[float, float]
    """Of scores that are differences of accuracies."""

    @classmethod
    def of(cls, runs: Sequence[RunResult]) -> "Axes":
        """Return axes that hold every run."""
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


def colour(probes: Sequence[str], probe: str) -> str:
    """Return the colour of ``probe``, the same in every figure."""
    return f"--p{list(probes).index(probe) % PALETTE}"


def is_dashed(probes: Sequence[str], probe: str) -> bool:
    """Whether ``probe`` shares its colour with an earlier one, and is told apart by dashes."""
    return list(probes).index(probe) >= PALETTE


def accuracy(run: RunResult, axes: Axes) -> Figure:
    """The accuracy on each probe over the stream; the larger dots are evaluations of whole probes."""
    return _by_probe(run, axes, lambda point: point.accuracy, RATIO)


def calibration(run: RunResult, axes: Axes) -> Figure:
    """The expected calibration error on each probe over the stream."""
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
    return {"data": traces, "layout": over_the_stream(run, axes, y)}


def prequential(run: RunResult, axes: Axes) -> Figure:
    """Test-then-train accuracy of the recent samples over the stream."""
    samples, values = zip(*((p.samples, p.accuracy) for p in run.prequential), strict=True)
    trace = line(samples, values, "--line", hover="%{y:.1%} after %{x:,} samples")
    return {"data": [trace], "layout": over_the_stream(run, axes, RATIO)}


def throughput(run: RunResult, axes: Axes) -> Figure:
    """Samples learned a second over the stream."""
    samples, values = zip(*((p.samples, p.samples_per_second) for p in run.throughput), strict=True)
    trace = line(samples, values, "--line", hover="%{y:,.0f} samples/s after %{x:,} samples")
    y = {"range": [0, 1.12 * axes.samples_per_second], "tickformat": "~s", "nticks": 6}
    return {"data": [trace], "layout": over_the_stream(run, axes, y)}


def forgetting(run: RunResult, axes: Axes) -> Figure:
    """What was lost of each old probe, a bar each, the first probe on top."""
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
    """What a panel has the room to write above its segments."""
    if len(run.switches) > MOST_SWITCHES_NAMED:
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
    """Return a trace; where ``y`` is None, it has a gap."""
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


def over_the_stream(run: RunResult, axes: Axes, y: Mapping[str, object]) -> Mapping[str, object]:
    """Return a layout over the samples learned, with the switches and what was detected of them."""
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
    """A tick at the foot, where a boundary was detected."""
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
