"""The whole report in one HTML document: styles, data, scripts and Plotly itself are inside."""

import json
from collections.abc import Callable, Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Final

from service.report import figures, tables
from service.report.classes import by_class
from service.report.course import CHANGES, LEVELS, changes, has_course, levels
from service.report.figures import Axes, Figure
from service.report.script import plotly_script
from service.report.words import UNDEFINED, Headline, headline, number, percent, points
from service.result import RunResult

__all__ = ["page"]

# the browser itself then refuses whatever would leave the file
POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
)
NOTHING: Final = '<p class="nothing">Not defined in this run.</p>'


def page(runs: Sequence[RunResult]) -> str:
    """Return the report on ``runs`` as HTML that fetches nothing."""
    axes = Axes.of(runs)
    drawn: dict[str, Figure] = {}

    def panels(
        kind: str, has_data: Callable[[RunResult], bool], draw: Callable[[RunResult, Axes], Figure]
    ) -> str:
        shown = []
        for place, run in enumerate(runs):
            if has_data(run):
                name = f"{kind}-{place}"
                drawn[name] = draw(run, axes)
                label = f"{kind}, {escape(run.learner)}"
                body = f'<div class="plot" role="img" aria-label="{label}" id="{name}"></div>'
            else:
                body = NOTHING
            shown.append(_panel(run, body))
        return _grid(shown)

    def classes(place: int, probe: str) -> str:
        drawn_of = panels(
            f"classes-{place}",
            lambda run: any(point.accuracy.get(probe) for point in run.classes),
            lambda run, axes: by_class(run, probe, axes),
        )
        return f"<h3>{escape(probe)}</h3>{drawn_of}"

    least = max(21, 8 + 5 * max(len(run.probes) for run in runs))  # rem, for a matrix to fit
    sections = [
        _section(
            "What each learner still knows, while it learns",
            "A probe is a held-out test set, one for each subject of the stream. Its line should rise while "
            "its subject is taught, and stay up afterwards. Dotted lines mark where the subject changes.",
            _probes(axes)
            + panels("accuracy", lambda run: bool(run.evaluations), figures.accuracy)
            + _numbered(runs),
        ),
        _section(
            "What was forgotten",
            "How far each old skill ended below its best, in percentage points. Nothing to see is good news.",
            panels("forgetting", lambda run: bool(run.forgetting_by_probe), figures.forgetting),
        ),
        _section(
            "Class by class",
            "A row for each class of a probe: the stronger its colour, the more of its images are told "
            "right. An average can stay high while one class is gone.",
            "".join(classes(place, probe) for place, probe in enumerate(axes.probes)),
        ),
        _section(
            "The accuracy matrix R",
            "Accuracy in % on each probe (column) after each segment (row). Framed: the probe of the segment "
            "just learned. Read a column downwards from its frame: falling numbers are forgetting.",
            _grid([_panel(run, tables.matrix(run) if run.R else NOTHING) for run in runs], least),
        ),
        _section(
            "Every score",
            "As it was at the end.",
            tables.scores(runs),
        ),
        _section(
            "The scores over the stream",
            "What each was after every evaluation. ACC counts a subject from its first sample on, and so "
            "steps down where a new one begins. WC-ACC counts the old ones at their worst moment so far: "
            "what is shaded between the two was lost at a switch and won back since, the stability gap.",
            _legend((of.name, of.colour, of.dashed) for of in LEVELS)
            + panels("levels", has_course, levels)
            + '<div class="apart"></div>'
            + _legend((of.name, of.colour, of.dashed) for of in CHANGES)
            + panels("changes", has_course, changes),
        ),
        _section(
            "Predicted before learned",
            "Prequential accuracy: each sample is a test first and a lesson second. The line fades out the "
            "past: it shows about the latest thousand samples, and falls where the subject changes.",
            panels("prequential", lambda run: bool(run.prequential), figures.prequential),
        ),
        _section(
            "Does it know what it knows?",
            "Expected calibration error of each probe: how far the learner's confidence is from how often it "
            "is right. At 0, it is right in 8 of 10 cases of which it is 80 % sure. What is forgotten is "
            "often still believed. Fewer images make the error a little larger: large dots are whole probes.",
            _probes(axes)
            + panels("calibration", lambda run: any(p.ece for p in run.evaluations), figures.calibration),
        ),
        _section(
            "Throughput",
            "Samples learned a second, over the stream.",
            panels("throughput", lambda run: bool(run.throughput), figures.throughput),
        ),
        _section(
            "Where every sample went",
            "The service lets go of a sample as soon as it is learned, and accounts for every one of them.",
            tables.samples(runs),
        ),
        _section(
            "How it was measured",
            "While the stream runs, the probes' subsets are used; where a segment ends, the whole probes. "
            "min-ACC falls with a finer cadence and with smaller subsets: compare it only at equal ones.",
            tables.measurement(runs),
        ),
    ]
    title = "; ".join(headline(run).verdict for run in runs)
    scripts = (plotly_script(), _asset("plot.js"), _asset("figures.js"))
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>Lethe: {escape(title)}</title><style>{_asset('style.css')}</style></head><body><main>",
            _header(runs),
            *sections,
            f'</main><script type="application/json" id="figures">{_json(drawn)}</script>',
            *(f"<script>{script}</script>" for script in scripts),
            "</body></html>",
        ]
    )


def _header(runs: Sequence[RunResult]) -> str:
    lines = "".join(_sentence(headline(run)) for run in runs)
    return (
        f"<header><p class=kicker>Lethe · {escape(_stream(runs))}</p><h1>{lines}</h1>"
        "<p class=lead>Catastrophic forgetting: what a learner has just been taught overwrites what it "
        "knew before. Nothing about the old subject has changed, only the learner has. Each sample of this "
        "stream was learned once, in the order in which it came.</p>"
        "<noscript><p class=lead>The figures need JavaScript; every number is in the tables.</p></noscript>"
        f'<div class="learners">{"".join(_summary(run) for run in runs)}</div></header>'
    )


def _sentence(said: Headline) -> str:
    return (
        f"<span>{escape(said.verdict)}: <b>{escape(said.numbers)}</b> "
        f"<small>{escape(said.circumstance)}</small></span>"
    )


def _stream(runs: Sequence[RunResult]) -> str:
    return ", ".join(dict.fromkeys(run.scenario or "a stream without a scenario" for run in runs))


def _summary(run: RunResult) -> str:
    if run.segments:
        skills = (
            (percent(run.acc), "average accuracy at the end (ACC)"),
            (points(run.bwt), "points of accuracy that old skills gained or lost by learning on (BWT)"),
            (percent(run.min_acc), "old skills at their worst moment (min\N{NON-BREAKING HYPHEN}ACC)"),
        )
    else:
        skills = (
            (percent(run.prequential_accuracy), "predicted right before it was learned"),
            (points(run.forgetting), "points that probes are below their best (forgetting)"),
            (points(run.windowed_forgetting), "points that a probe fell at most within a window (WF)"),
        )
    big = (*skills, (number(run.samples_per_second), "samples learned a second"))
    numbers = "".join(
        f"<div><dd{' class=undefined' if value == UNDEFINED else ''}>{value}</dd><dt>{meaning}</dt></div>"
        for value, meaning in big
    )
    return (
        f"<section class=card><h2>{escape(run.learner)}</h2><p>{escape(run.summary.rstrip('.'))}. "
        f"Keeps of the samples: {escape(run.retains)}.</p><dl>{numbers}</dl></section>"
    )


def _section(title: str, lead: str, body: str) -> str:
    explained = f"<p class=lead>{lead}</p>" if lead else ""
    return f'<section><div class="head"><h2>{title}</h2>{explained}</div>{body}</section>'


def _grid(panels: Sequence[str], least: int = 0) -> str:
    style = f' style="--least:{least}rem"' if least else ""
    return f'<div class="panels"{style}>{"".join(panels)}</div>'


def _panel(run: RunResult, body: str) -> str:
    return f'<figure class="panel"><figcaption>{escape(run.learner)}</figcaption>{body}</figure>'


def _probes(axes: Axes) -> str:
    return _legend(
        (probe, figures.colour(axes.probes, probe), figures.is_dashed(axes.probes, probe))
        for probe in axes.probes
    )


def _legend(lines: Iterable[tuple[str, str, bool]]) -> str:
    """Return what tells lines apart, each a name, a colour and whether it is dashed."""
    chips = "".join(
        f'<li><i{" class=dashed" if dashed else ""} style="--chip:var({colour})"></i>{escape(name)}</li>'
        for name, colour, dashed in lines
    )
    return f'<ul class="legend">{chips}</ul>'


def _numbered(runs: Sequence[RunResult]) -> str:
    """List the segments where the figures could only number them."""
    orders = dict.fromkeys(tuple(run.segments) for run in runs if figures.naming(run) == "numbers")
    return "".join(f'<p class="lead">Segments: {_listed(order)}.</p>' for order in orders)


def _listed(segments: Sequence[str]) -> str:
    return ", ".join(f"{n}\N{NO-BREAK SPACE}{escape(name)}" for n, name in enumerate(segments, start=1))


def _asset(name: str) -> str:
    return files("service.report").joinpath(name).read_text("utf-8")


def _json(value: object) -> str:
    # inside a script element only "<" could end it early
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
