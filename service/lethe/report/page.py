"""Renders the whole report as one HTML document, with styles, data, scripts and Plotly inside."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lethe.events import SCORES
from lethe.files.html.templates import SELF_CONTAINED, render
from lethe.observability.result import RunResult
from lethe.report import figures, tables
from lethe.report.class_heatmap import by_class
from lethe.report.figures import Axes, Figure
from lethe.report.formatting import UNDEFINED, number
from lethe.report.headline import headline
from lethe.report.plotly_script import plotly_script
from lethe.report.score_curves import CHANGES, LEVELS, changes, has_curves, legend, levels

__all__ = ["SECURITY_POLICY", "page"]

# the browser itself then blocks every request
SECURITY_POLICY: Final = f"{SELF_CONTAINED}; script-src 'unsafe-inline'; img-src data: blob:"

_WITH_SEGMENTS: Final = ("acc", "bwt", "min_acc")
_WITHOUT_SEGMENTS: Final = ("prequential_accuracy", "forgetting", "windowed_forgetting")
"""Scores that are shown as tiles; of a stream without named segments those that it defines."""


def page(runs: Sequence[RunResult]) -> str:
    """Return the report on ``runs`` as HTML that fetches nothing."""
    axes = Axes.of(runs)
    return render(
        "report/report.html.jinja",
        security_policy=SECURITY_POLICY,
        runs=runs,
        headlines=[headline(run) for run in runs],
        scenarios=list(dict.fromkeys(run.scenario or "no scenario" for run in runs)),
        tiles=_tiles,
        score=SCORES,
        probes=axes.probes,
        probe_legend=figures.legend(axes.probes),
        level_legend=legend(LEVELS),
        change_legend=legend(CHANGES),
        numbered_segments=_numbered(runs),
        matrix_of=tables.matrix,
        matrix_width=max(21, 8 + 5 * max(len(run.probes) for run in runs)),  # rem
        score_rows=tables.scores(runs),
        sample_rows=tables.samples(runs),
        measurement_rows=tables.measurement(runs),
        figures=_figures(runs, axes),
        plotly=plotly_script(),
    )


@dataclass(frozen=True, slots=True)
class _Tile:
    """One of the large numbers at the top."""

    value: str
    caption: str

    @property
    def defined(self) -> bool:
        return self.value != UNDEFINED


def _tiles(run: RunResult) -> Sequence[_Tile]:
    shown = _WITH_SEGMENTS if run.segments else _WITHOUT_SEGMENTS
    scores = [_Tile(tables.value(run, score), tables.caption(score)) for score in shown]
    return (*scores, _Tile(number(run.samples_per_second), "samples learned per second"))


def _figures(runs: Sequence[RunResult], axes: Axes) -> Mapping[str, Figure]:
    """Return every figure by the id of its place in the document: its kind and the number of its run."""
    kinds: list[tuple[str, Callable[[RunResult], bool], Callable[[RunResult], Figure]]] = [
        ("accuracy", lambda run: bool(run.evaluations), lambda run: figures.accuracy(run, axes)),
        ("forgetting", lambda run: bool(run.forgetting_by_probe), lambda run: figures.forgetting(run, axes)),
        *(_class_figures(place, probe, axes) for place, probe in enumerate(axes.probes)),
        ("levels", has_curves, lambda run: levels(run, axes)),
        ("changes", has_curves, lambda run: changes(run, axes)),
        ("prequential", lambda run: bool(run.prequential), lambda run: figures.prequential(run, axes)),
        (
            "calibration",
            lambda run: any(point.ece for point in run.evaluations),
            lambda run: figures.calibration(run, axes),
        ),
        ("throughput", lambda run: bool(run.throughput), lambda run: figures.throughput(run, axes)),
    ]
    return {
        f"{kind}-{place}": draw(run)
        for kind, has_data, draw in kinds
        for place, run in enumerate(runs)
        if has_data(run)
    }


def _class_figures(
    place: int, probe: str, axes: Axes
) -> tuple[str, Callable[[RunResult], bool], Callable[[RunResult], Figure]]:
    return (
        f"classes-{place}",
        lambda run: any(point.accuracy.get(probe) for point in run.classes),
        lambda run: by_class(run, probe, axes),
    )


def _numbered(runs: Sequence[RunResult]) -> Sequence[str]:
    """List the segments if the figures have room for their numbers alone."""
    orders = dict.fromkeys(tuple(run.segments) for run in runs if figures.naming(run) == "numbers")
    return [
        ", ".join(f"{n}\N{NO-BREAK SPACE}{name}" for n, name in enumerate(order, start=1)) for order in orders
    ]
