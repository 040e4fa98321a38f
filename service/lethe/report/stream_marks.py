"""Marks of figures over the stream: thin lines at switches, ticks at detected boundaries, a timeline."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final, Literal

from lethe.observability.result import RunResult
from lethe.report.figures import PALETTE, Axes, Figure, colour, last_sample

__all__ = ["MAX_LISTED", "naming", "stream_layout", "with_timeline"]

MAX_LABELLED_SWITCHES: Final = 12
"""With more segments than this, their starts are drawn without labels."""
MAX_LISTED: Final = 40
"""With more segments than this, they are not listed by number either: R lists them."""
ROOM: Final = 34
"""Characters of the segments' names that fit above a panel."""
BAR: Final = 26
"""Height of the timeline, in pixels."""
GAP: Final = 8
"""Between the timeline and what is above, in pixels."""


def naming(run: RunResult) -> Literal["names", "numbers"]:
    """Return which labels fit the segments of a panel."""
    fits = sum(len(switch.segment) + 3 for switch in run.switches) <= ROOM
    return "names" if fits else "numbers"


def stream_layout(
    run: RunResult, axes: Axes, y: Mapping[str, object], *, labelled: bool = True
) -> Mapping[str, Any]:
    """Return a layout over the samples learned, with segment switches and detected boundaries."""
    return {
        "height": 290,
        "xaxis": {
            "range": [0, axes.samples],
            "tickformat": "~s",
            "nticks": 5,
            "title": {"text": "seconds watched" if run.source == "watched" else "samples learned"},
        },
        "yaxis": y,
        "shapes": [
            *(_mark(switch.samples, "--switch", 1.0) for switch in run.switches if switch.samples > 0),
            *(_mark(boundary.samples, "--ink", 0.06, 2) for boundary in run.boundaries.detected),
        ],
        "annotations": list(_labels(run)) if labelled else [],
    }


def with_timeline(run: RunResult, axes: Axes, traces: Sequence[Figure], layout: Mapping[str, Any]) -> Figure:
    """Return a figure of ``traces`` above a bar of the segments, each in the colour of its probe."""
    if not run.switches:
        return {"data": traces, "layout": layout}
    height = layout["height"] + BAR + GAP
    inside = height - 70  # without the margins and the axis
    return {
        "data": [*traces, _timeline(run, axes)],
        "layout": {
            **layout,
            "height": height,
            "xaxis": {**layout["xaxis"], "anchor": "y2"},
            "yaxis": {**layout["yaxis"], "domain": [(BAR + GAP) / inside, 1]},
            "yaxis2": {
                "domain": [0, BAR / inside],
                "range": [-0.5, 0.5],
                "showgrid": False,
                "showticklabels": False,
                "fixedrange": True,
            },
            "uniformtext": {"mode": "hide", "minsize": 10},
            "annotations": [*layout["annotations"], *_numbers(run)],
        },
    }


def _timeline(run: RunResult, axes: Axes) -> Figure:
    names = [switch.segment for switch in run.switches]
    spans = list(_spans(run))
    return {
        "type": "bar",
        "orientation": "h",
        "yaxis": "y2",
        "y": [0] * len(names),
        "base": [start for start, _ in spans],
        "x": [end - start for start, end in spans],
        "width": 1,
        "text": [escape(name) for name in names] if naming(run) == "names" else [],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "textfont": {"color": "--ink", "size": 12},
        "marker": {
            "color": [_colour(axes, name) for name in names],
            "opacity": 0.4,
            "line": {"color": "--paper", "width": 1},
        },
        "hovertemplate": [
            f"{visit} {escape(name)}: {start:,} to {end:,} samples<extra></extra>"
            for visit, (name, (start, end)) in enumerate(zip(names, spans, strict=True), start=1)
        ],
        "name": "segments",
        "showlegend": False,
    }


def _numbers(run: RunResult) -> list[Figure]:
    """Return the numbers of the segments, where names do not fit: of every n-th, if there are very many.

    Plotly hides the text of a bar that is narrower than the text with its margins, on a phone all above 9.
    Labels only have to leave room for each other: ``plot.js`` hides one that would overlap the one before.
    """
    if naming(run) == "names":
        return []
    every = -(-len(run.switches) // MAX_LISTED)
    return [
        {
            "x": (start + end) / 2,
            "y": 0,
            "yref": "y2",
            "showarrow": False,
            "text": str(visit),
            "font": {"color": "--ink", "size": 10},
        }
        for visit, (start, end) in enumerate(_spans(run), start=1)
        if (visit - 1) % every == 0
    ]


def _colour(axes: Axes, segment: str) -> str:
    """Return the colour of the segment's probe: a neutral one if it has none, or there are too many."""
    if segment not in axes.probes or len(axes.probes) > PALETTE:
        return "--soft"
    return colour(axes.probes, segment)


def _spans(run: RunResult) -> Iterable[tuple[int, int]]:
    """Return the first and the last sample of each segment."""
    starts = [switch.samples for switch in run.switches]
    return zip(starts, [*starts, last_sample(run)][1:], strict=True)


def _mark(samples: int, color: str, height: float, width: float = 1) -> Mapping[str, object]:
    """Return a line from the bottom of a figure up to a share of its height."""
    return {
        "type": "line",
        "yref": "y domain",
        "x0": samples,
        "x1": samples,
        "y0": 0,
        "y1": height,
        "line": {"color": color, "width": width},
    }


def _labels(run: RunResult) -> Iterable[Mapping[str, object]]:
    if len(run.switches) > MAX_LABELLED_SWITCHES:
        return
    named = naming(run) == "names"
    for visit, (switch, (start, end)) in enumerate(zip(run.switches, _spans(run), strict=True), start=1):
        yield {
            "x": (start + end) / 2,
            "y": 1.02,
            "yref": "paper",
            "yanchor": "bottom",
            "showarrow": False,
            "text": escape(switch.segment) if named else str(visit),
            "font": {"color": "--soft", "size": 12},
        }
