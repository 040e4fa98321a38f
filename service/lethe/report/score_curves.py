"""Draws each score after every evaluation, over the stream."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lethe.events import SCORES
from lethe.observability.result import RunResult
from lethe.report.figures import PALETTE, RATIO, Axes, Figure, LegendEntry, line
from lethe.report.stream_marks import stream_layout

__all__ = ["CHANGES", "LEVELS", "Curve", "changes", "has_curves", "legend", "levels"]


@dataclass(frozen=True, slots=True)
class Curve:
    """How one score is drawn."""

    score: str
    colour: str
    dashed: bool = False
    filled: bool = False
    """Shade the area between this curve and the one before."""

    @property
    def name(self) -> str:
        """Its name in the legend."""
        return SCORES[self.score].label


_STYLED: Final = (
    Curve("acc", "--line"),
    Curve("wc_acc", "--p3", dashed=True, filled=True),
    Curve("anytime_accuracy", "--p6", dashed=True),
    Curve("min_acc", "--p7"),
    Curve("bwt", "--line"),
    Curve("fwt", "--p6", dashed=True),
    Curve("windowed_plasticity", "--p2", dashed=True),
    Curve("windowed_forgetting", "--p3", dashed=True),
    Curve("forgetting", "--p7"),
)
"""In drawing order; scores that are not listed follow, in the palette's colours."""


def _curves(kind: str) -> tuple[Curve, ...]:
    drawn = [name for name, info in SCORES.items() if info.kind == kind and info.curve]
    styled = [curve for curve in _STYLED if curve.score in drawn]
    others = [name for name in drawn if name not in {curve.score for curve in styled}]
    return *styled, *(Curve(name, f"--p{place % PALETTE}") for place, name in enumerate(others))


LEVELS: Final = _curves("accuracy")
"""Accuracies; higher is better."""
CHANGES: Final = _curves("difference")
"""Differences of accuracies."""


def has_curves(run: RunResult) -> bool:
    """Return whether the evaluations of ``run`` carry scores; those of older files do not."""
    return any(point.scores for point in run.evaluations)


def legend(curves: Sequence[Curve]) -> list[LegendEntry]:
    """Return the legend of a figure of ``curves``."""
    return [LegendEntry(curve.name, f"var({curve.colour})", curve.dashed) for curve in curves]


def levels(run: RunResult, axes: Axes) -> Figure:
    """Draw the accuracies.

    ACC − WC-ACC = (1/k) Σ_{j≠k} (A(E_j, f_n) − min_m A(E_j, f_m)), as the current probe counts the same in
    both. The shaded difference is the stability gap: what the other probes lost and recovered.
    """
    return _drawn(run, axes, LEVELS, RATIO)


def changes(run: RunResult, axes: Axes) -> Figure:
    """Draw transfer, forgetting and the extremes within a window."""
    y = {"range": list(axes.changes), "tickformat": ".0%", "nticks": 6, "zeroline": True}
    return _drawn(run, axes, CHANGES, y)


def _drawn(run: RunResult, axes: Axes, curves: Sequence[Curve], y: Figure) -> Figure:
    traces = [
        {
            **line(
                [point.samples for point in run.evaluations],
                [point.scores.get(curve.score) for point in run.evaluations],
                curve.colour,
                name=curve.name,
                dashed=curve.dashed,
                dots=[7 if point.full else 0 for point in run.evaluations],
                hover="%{y:.1%} after %{x:,} samples",
                steps=True,
            ),
            **({"fill": "tonexty", "fillcolor": "--gap"} if curve.filled else {}),
        }
        for curve in curves
        if any(curve.score in point.scores for point in run.evaluations)
    ]
    return {"data": traces, "layout": stream_layout(run, axes, y)}
