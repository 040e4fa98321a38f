"""The parts of the figures that Plotly draws, as plain data: axes, colours, legends and lines.

A colour is the name of a custom property of ``base.css``, such as ``--ink``: ``plot.js`` replaces it with its
value in the reader's theme. Plotly interprets text as HTML, so every name is escaped here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lethe.events import SCORES
from lethe.observability.result import RunResult

__all__ = [
    "PALETTE",
    "RATIO",
    "Axes",
    "Figure",
    "LegendEntry",
    "colour",
    "is_dashed",
    "last_sample",
    "legend",
    "line",
]

PALETTE: Final = 8
"""Colours in the style sheet, from ``--p0``; further names reuse them, dashed."""
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
        return cls(
            probes=list(dict.fromkeys(probe for run in runs for probe in run.probes)),
            samples=max([1, *(last_sample(run) for run in runs)]),
            samples_per_second=max([1.0, *fastest]),
            forgetting=(1.05 * low, 1.05 * high),
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


def line(
    x: Sequence[float],
    y: Sequence[float | None],
    color: str,
    *,
    hover: str,
    name: str = "",
    dashed: bool = False,
    dots: Sequence[int] | None = None,
    steps: bool = False,
) -> Figure:
    """Return a line trace; it has a gap if ``y`` is None.

    With ``steps`` each value holds until the next one, as on the dashboards: between two evaluations nothing
    is known.
    """
    return {
        "type": "scatter",
        "mode": "lines" if dots is None else "lines+markers",
        "x": list(x),
        "y": list(y),
        "name": name,
        "line": {
            "color": color,
            "width": 2.25,
            "dash": "dash" if dashed else "solid",
            "shape": "hv" if steps else "linear",
        },
        "marker": {"color": color, "size": dots, "opacity": 1, "line": {"width": 0}},
        "cliponaxis": False,  # the last dot sits on the edge
        "hovertemplate": f"{name}{': ' if name else ''}{hover}<extra></extra>",
    }


def last_sample(run: RunResult) -> int:
    """Return the number of samples at which the run ends, so far."""
    return max([run.samples.learned, *(point.samples for point in run.evaluations)])
