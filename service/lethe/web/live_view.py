"""The figures, tables and headline of the live page, from the run so far."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, TypeVar

from lethe.files.html.templates import render
from lethe.observability.result import RunResult
from lethe.report import figures, probe_figures, stream_figures, tables
from lethe.report.class_heatmap import by_class, has_classes, worst_classes
from lethe.report.formatting import percent
from lethe.report.headline import Headline, headline
from lethe.report.stream_marks import MAX_LISTED, naming
from lethe.report.vital_signs import vital_signs

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
        "accuracy": probe_figures.accuracy(run, axes) if run.evaluations else None,
        "prequential": stream_figures.prequential(run, axes) if run.prequential else None,
        "calibration": probe_figures.calibration(run, axes) if run.evaluations else None,
        "throughput": stream_figures.throughput(run, axes) if run.throughput else None,
        "forgetting": probe_figures.forgetting(run, axes) if run.forgetting_by_probe else None,
    }
    return {
        "learner": run.learner,
        "summary": run.summary,
        "headline": asdict(_headline(run)),
        "signs": [asdict(sign) for sign in vital_signs(run)],
        "scores": render("report/glance.html.jinja", scores=tables.glance(run)),
        "figures": {name: figure for name, figure in drawn.items() if figure is not None},
        "classes": _classes(run, axes),
        "crowded": probe_figures.is_crowded(run.probes),
        "legend": [asdict(entry) for entry in figures.legend(axes.probes)],
        "numbered": list(run.segments)
        if naming(run) == "numbers" and len(run.segments) <= MAX_LISTED
        else [],
        "matrix": render("report/matrix.html.jinja", matrix=tables.matrix(run)) if run.R else "",
    }


def _classes(run: RunResult, axes: figures.Axes) -> list[Mapping[str, Any]]:
    if probe_figures.is_crowded(run.probes):
        shown = has_classes(run, run.probes)
        return [{"name": "lowest class of each probe", "figure": worst_classes(run, axes)}] if shown else []
    return [
        {"name": probe, "figure": by_class(run, probe, axes)}
        for probe in run.probes
        if has_classes(run, [probe])
    ]


def _headline(run: RunResult) -> Headline:
    if run.source == "watched" and run.evaluations:
        return headline(run)
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
