"""The figures, tables and headline of the live page, from the run so far."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, TypeVar

from lethe.files.html.templates import render
from lethe.observability.result import RunResult
from lethe.report import figures, tables
from lethe.report.class_heatmap import by_class
from lethe.report.formatting import percent
from lethe.report.headline import Headline, headline

__all__ = ["live_view"]

MAX_POINTS: Final = 300
"""Of a curve; the report has all of them."""
MAX_COLUMNS: Final = 60
"""Of the heat map of a probe's classes; the report has all of them."""

_Item = TypeVar("_Item")


def live_view(run: RunResult) -> Mapping[str, Any]:
    """Return what the page draws, ready for JSON; ``scores`` and ``matrix`` are HTML, all else is text."""
    run = run.model_copy(
        update={
            "evaluations": _thinned(run.evaluations, lambda point: point.full),
            "classes": _thinned(run.classes, at_most=MAX_COLUMNS),
            "prequential": _thinned(run.prequential),
            "throughput": _thinned(run.throughput),
        }
    )
    axes = figures.Axes.of([run])
    drawn = {
        "accuracy": figures.accuracy(run, axes) if run.evaluations else None,
        "prequential": figures.prequential(run, axes) if run.prequential else None,
        "calibration": figures.calibration(run, axes) if run.evaluations else None,
        "throughput": figures.throughput(run, axes) if run.throughput else None,
        "forgetting": figures.forgetting(run, axes) if run.forgetting_by_probe else None,
    }
    return {
        "learner": run.learner,
        "summary": run.summary,
        "headline": asdict(_headline(run)),
        "tiles": {name: tables.value(run, name) for name in ("bwt", "forgetting")},
        "scores": render("report/glance.html.jinja", scores=tables.glance(run)),
        "figures": {name: figure for name, figure in drawn.items() if figure is not None},
        "classes": [
            {"name": probe, "figure": by_class(run, probe, axes)}
            for probe in run.probes
            if any(point.accuracy.get(probe) for point in run.classes)
        ],
        "legend": [asdict(entry) for entry in figures.legend(axes.probes)],
        "numbered": list(run.segments) if figures.naming(run) == "numbers" else [],
        "matrix": render("report/matrix.html.jinja", matrix=tables.matrix(run)) if run.R else "",
    }


def _headline(run: RunResult) -> Headline:
    if not (run.segments or run.samples.learned):
        return Headline(f"{run.learner} is waiting for its first sample", "", "")
    if run.segments and not run.forgetting_by_probe:
        return Headline(f"{run.learner} is learning {run.segments[-1]}", percent(run.acc), "so far")
    return headline(run)


def _thinned(
    items: Sequence[_Item], always: Callable[[_Item], bool] = lambda _: False, at_most: int = MAX_POINTS
) -> list[_Item]:
    """Return about ``at_most`` evenly spaced ``items``, the last one, and those that ``always`` accepts."""
    step = -(-len(items) // at_most)
    last = len(items) - 1
    return [item for i, item in enumerate(items) if i % step == 0 or i == last or always(item)]
