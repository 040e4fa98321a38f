"""Renders the whole report as one HTML document, with styles, data, scripts and Plotly inside."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lethe.events import SCORES
from lethe.files.html.templates import SELF_CONTAINED, render
from lethe.observability.result import RunResult
from lethe.report import figures, probe_figures, stream_figures, tables
from lethe.report.class_heatmap import by_class, has_classes, worst_classes
from lethe.report.figures import Axes, Figure
from lethe.report.formatting import UNDEFINED, number, percent
from lethe.report.headline import headline
from lethe.report.plotly_script import plotly_script
from lethe.report.score_curves import CHANGES, LEVELS, changes, has_curves, legend, levels
from lethe.report.stream_marks import MAX_LISTED, naming
from lethe.report.vital_signs import LOST, vital_signs

__all__ = ["SECURITY_POLICY", "page"]

# the browser itself then blocks every request
SECURITY_POLICY: Final = f"{SELF_CONTAINED}; script-src 'unsafe-inline'; img-src data: blob:"

_WITH_SEGMENTS: Final = ("acc", "bwt")
_WITHOUT_SEGMENTS: Final = ("prequential_accuracy", "forgetting")
"""Scores shown as tiles, besides the vital signs: in a stream without named segments, those defined."""
_Kind = tuple[str, Callable[[RunResult], bool], Callable[[RunResult], Figure]]
"""A kind of figure: its name, whether a run has data for it, and how it is drawn."""


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
        limits=f"{100 * LOST.doubtful:g} and {100 * LOST.bad:g} points",
        crowded=probe_figures.is_crowded(axes.probes),
        most_calibration=percent(axes.calibration),
        class_titles=["Lowest class of each probe"] if probe_figures.is_crowded(axes.probes) else axes.probes,
        probe_legend=figures.legend(axes.probes),
        level_legend=legend(LEVELS),
        change_legend=legend(CHANGES),
        numbered_segments=_numbered(runs),
        matrix_of=tables.matrix,
        matrix_width=max(21, *(_matrix_width(len(run.probes)) for run in runs)),  # rem
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
    question: str = ""
    verdict: str = ""

    @property
    def style(self) -> str:
        return "undefined" if self.value == UNDEFINED else self.verdict


def _tiles(run: RunResult) -> Sequence[_Tile]:
    shown = _WITH_SEGMENTS if run.segments else _WITHOUT_SEGMENTS
    signs = [_Tile(sign.value, sign.about, sign.question, sign.verdict) for sign in vital_signs(run)]
    scores = [_Tile(tables.value(run, score), tables.caption(score)) for score in shown]
    return (*signs, *scores, _Tile(number(run.samples_per_second), "samples learned per second"))


def _figures(runs: Sequence[RunResult], axes: Axes) -> Mapping[str, Figure]:
    """Return every figure by the id of its place in the document: its kind and the number of its run."""
    kinds: list[_Kind] = [
        ("accuracy", lambda run: bool(run.evaluations), lambda run: probe_figures.accuracy(run, axes)),
        (
            "forgetting",
            lambda run: bool(run.forgetting_by_probe),
            lambda run: probe_figures.forgetting(run, axes),
        ),
        *_class_figures(axes),
        ("levels", has_curves, lambda run: levels(run, axes)),
        ("changes", has_curves, lambda run: changes(run, axes)),
        ("prequential", lambda run: bool(run.prequential), lambda run: stream_figures.prequential(run, axes)),
        (
            "calibration",
            lambda run: any(point.ece for point in run.evaluations),
            lambda run: probe_figures.calibration(run, axes),
        ),
        ("throughput", lambda run: bool(run.throughput), lambda run: stream_figures.throughput(run, axes)),
    ]
    return {
        f"{kind}-{place}": draw(run)
        for kind, has_data, draw in kinds
        for place, run in enumerate(runs)
        if has_data(run)
    }


def _class_figures(axes: Axes) -> list[_Kind]:
    """Return a figure for each probe, or one of all probes if they are crowded."""
    if probe_figures.is_crowded(axes.probes):
        return [("classes-0", lambda run: has_classes(run, run.probes), lambda run: worst_classes(run, axes))]
    return [_class_figure(place, probe, axes) for place, probe in enumerate(axes.probes)]


def _class_figure(place: int, probe: str, axes: Axes) -> _Kind:
    return (
        f"classes-{place}",
        lambda run: has_classes(run, [probe]),
        lambda run: by_class(run, probe, axes),
    )


def _matrix_width(probes: int) -> float:
    """Return the width of a matrix R, in rem: columns of a compact one are narrower."""
    return 10 + 2.1 * probes if probes > figures.PALETTE else 8 + 5 * probes


def _numbered(runs: Sequence[RunResult]) -> Sequence[str]:
    """List the segments if the figures have room for their numbers alone."""
    orders = dict.fromkeys(
        tuple(run.segments) for run in runs if naming(run) == "numbers" and len(run.segments) <= MAX_LISTED
    )
    return [
        ", ".join(f"{n}\N{NO-BREAK SPACE}{name}" for n, name in enumerate(order, start=1)) for order in orders
    ]
