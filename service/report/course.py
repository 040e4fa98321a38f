"""The course of the scores: what each of them was after every evaluation, over the stream."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from service.report.figures import RATIO, Axes, Figure, line, over_the_stream
from service.result import RunResult

__all__ = ["CHANGES", "LEVELS", "Course", "changes", "has_course", "levels"]


@dataclass(frozen=True, slots=True)
class Course:
    """How one score is drawn."""

    score: str
    name: str
    colour: str
    dashed: bool = False
    filled: bool = False
    """What lies between it and the one before is shaded."""


LEVELS: Final = (
    Course("acc", "ACC", "--line"),
    Course("wc_acc", "WC-ACC", "--p3", dashed=True, filled=True),
    Course("anytime_accuracy", "anytime accuracy", "--p6", dashed=True),
    Course("min_acc", "min-ACC", "--p7"),
)
"""Accuracies: the higher, the better."""
CHANGES: Final = (
    Course("bwt", "BWT", "--line"),
    Course("fwt", "FWT", "--p6", dashed=True),
    Course("windowed_plasticity", "WP", "--p2", dashed=True),
    Course("windowed_forgetting", "WF", "--p3", dashed=True),
    Course("forgetting", "forgetting", "--p7"),
)
"""Differences of accuracies."""


def has_course(run: RunResult) -> bool:
    """Whether the scores of ``run`` were kept with its evaluations: they once were not."""
    return any(point.scores for point in run.evaluations)


def levels(run: RunResult, axes: Axes) -> Figure:
    """Draw the accuracies.

    Of distinct segments, ACC − WC-ACC = (1/k) Σ_old (A(E_j) now − A(E_j) at its worst), for the present
    subject is in both as it is: what old skills lost and won back. Shaded, that is the stability gap.
    """
    return _drawn(run, axes, LEVELS, RATIO)


def changes(run: RunResult, axes: Axes) -> Figure:
    """Draw the transfers, forgetting and the windows' extremes."""
    y = {"range": list(axes.changes), "tickformat": ".0%", "nticks": 6, "zeroline": True}
    return _drawn(run, axes, CHANGES, y)


def _drawn(run: RunResult, axes: Axes, courses: Sequence[Course], y: Figure) -> Figure:
    traces = [
        {
            **line(
                [point.samples for point in run.evaluations],
                [point.scores.get(course.score) for point in run.evaluations],
                course.colour,
                name=course.name,
                dashed=course.dashed,
                dots=[7 if point.full else 0 for point in run.evaluations],
                hover="%{y:.1%} after %{x:,} samples",
            ),
            **({"fill": "tonexty", "fillcolor": "--gap"} if course.filled else {}),
        }
        for course in courses
        if any(course.score in point.scores for point in run.evaluations)
    ]
    return {"data": traces, "layout": over_the_stream(run, axes, y)}
