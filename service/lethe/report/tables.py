"""The tables of the report as data: the matrix R, every score with its definition, sample counts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lethe.events import BALANCE, COUNTS, SCORES, ScoreInfo
from lethe.observability.result import RunResult
from lethe.report.formatting import UNDEFINED, mebibytes, number, percent, points, seconds
from lethe.report.probe_figures import is_crowded

__all__ = [
    "BriefScore",
    "Cell",
    "Matrix",
    "MatrixRow",
    "Row",
    "caption",
    "glance",
    "matrix",
    "measurement",
    "samples",
    "scores",
    "value",
]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table with a column for each learner."""

    heading: str
    values: Sequence[str]
    note: str = ""
    formula: str = ""
    indented: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """An accuracy of the matrix R."""

    percent: str
    heat: str
    """The same, without decimals: how strongly the cell is shaded."""
    own: bool
    """Whether the row's segment is the one that this probe tests."""
    taught: bool
    """Whether that segment was learned before, or is the row's."""


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """The accuracies after one segment."""

    label: str
    cells: Sequence[Cell]


@dataclass(frozen=True, slots=True)
class Matrix:
    """R as a table; a ``compact`` one has narrow columns and whole numbers."""

    probes: Sequence[str]
    rows: Sequence[MatrixRow]
    compact: bool


@dataclass(frozen=True, slots=True)
class BriefScore:
    """A score as the live page lists it."""

    name: str
    brief: str
    value: str


def matrix(run: RunResult) -> Matrix:
    """Return R as a table; a row's own probe is marked."""
    rows, compact = [], is_crowded(run.probes)
    for after, accuracies in enumerate(run.R):
        segment, taught = run.segments[after - 1] if after else None, run.segments[:after]
        cells = [
            Cell(
                f"{100 * accuracy:.{0 if compact else 1}f}",
                f"{100 * accuracy:.0f}",
                own=probe == segment,
                taught=probe in taught,
            )
            for probe, accuracy in zip(run.probes, accuracies, strict=True)
        ]
        rows.append(MatrixRow("untrained" if segment is None else f"{after} {segment}", cells))
    return Matrix(run.probes, rows, compact)


def scores(runs: Sequence[RunResult]) -> list[Row]:
    """Return every score of every learner, with its meaning and its formula."""
    return [
        Row(info.label, [value(run, name) for run in runs], _in_points(info, info.meaning), info.formula)
        for name, info in SCORES.items()
    ]


def glance(run: RunResult) -> list[BriefScore]:
    """Return every score of one learner."""
    return [
        BriefScore(info.label, _in_points(info, info.brief), value(run, name))
        for name, info in SCORES.items()
    ]


def samples(runs: Sequence[RunResult]) -> list[Row]:
    """Return how many records were received, and what became of them."""
    rows = []
    for name, info in COUNTS.items():
        counts = [number(getattr(run.samples, name)) for run in runs]
        rows.append(Row(info.label, counts, info.meaning))
        if name == "dead_lettered":
            rows += _by_reason(runs)
    rows.append(Row(BALANCE, [_adds_up(run) for run in runs]))
    return rows


def _by_reason(runs: Sequence[RunResult]) -> list[Row]:
    """Return a row for each reason why records were dead-lettered."""
    reasons = sorted({reason for run in runs for reason in run.dead_letters})
    return [
        Row(reason, [number(run.dead_letters.get(reason, 0)) for run in runs], indented=True)
        for reason in reasons
    ]


def value(run: RunResult, score: str) -> str:
    """Return a score as it is shown: a difference in percentage points, any other in percent."""
    ratio = getattr(run, score)
    return points(ratio) if SCORES[score].kind == "difference" else percent(ratio)


def caption(score: str) -> str:
    """Return the label of a score and its meaning in one line."""
    info = SCORES[score]
    return f"{info.label}: {_in_points(info, info.brief)}"


def _in_points(info: ScoreInfo, text: str) -> str:
    if info.kind != "difference":
        return text
    return f"{text} In percentage points." if text.endswith(".") else f"{text}, in points"


def measurement(runs: Sequence[RunResult]) -> list[Row]:
    """Return the settings of each run, its duration, and what was detected."""
    facts: Sequence[tuple[str, Callable[[RunResult], str]]] = (
        ("scenario", lambda run: run.scenario or UNDEFINED),
        ("segments", lambda run: f"{len(run.segments)}: {_shortened(run.segments)}"),
        ("broker", lambda run: run.broker),
        ("seed", lambda run: str(run.seed)),
        ("evaluated every", lambda run: f"{number(run.evaluate_every)} samples"),
        ("images per probe within a segment", lambda run: number(run.probe_subset)),
        ("evaluations in a window, w", lambda run: number(run.window)),
        ("evaluations", lambda run: number(len(run.evaluations))),
        ("duration", lambda run: seconds(run.seconds)),
        ("spent on evaluations", lambda run: seconds(run.evaluation_seconds)),
        ("samples learned per second", lambda run: number(run.samples_per_second)),
        ("peak memory (RSS)", lambda run: mebibytes(run.peak_rss_bytes)),
        ("retains", lambda run: run.retains),
        ("differential privacy", _spent),
        ("boundaries detected", _found),
        ("samples until detection", _delays),
        ("false alarms", lambda run: number(run.boundaries.false_alarms) if run.segments else UNDEFINED),
        ("regimes assigned", _regimes),
        ("returning regimes recognised", _recognised),
    )
    return [Row(name, [fact(run) for run in runs]) for name, fact in facts]


def _spent(run: RunResult) -> str:
    """Return the privacy budget that was spent, and whether that stopped the run."""
    if run.privacy is None:
        return "none"
    end = "; learning stopped" if run.privacy.spent else ""
    if run.privacy.epsilon is None:
        return f"simulated: seeded noise gives no privacy{end}"
    return f"ε = {run.privacy.epsilon:.3g} of {run.privacy.budget:.3g}, δ = {run.privacy.delta:.0e}{end}"


def _found(run: RunResult) -> str:
    if not run.segments:
        return f"{number(len(run.boundaries.detected))} in a stream without named segments"
    switches = len(run.boundaries.delays)
    return f"{number(switches - run.boundaries.missed)} of {number(switches)}"


def _delays(run: RunResult) -> str:
    found = [delay for delay in run.boundaries.delays if delay is not None]
    return ", ".join(number(delay) for delay in found[:8]) + (", …" if len(found) > 8 else "") or UNDEFINED


def _regimes(run: RunResult) -> str:
    order = [str(assigned.regime) for assigned in run.boundaries.regimes]
    return f"{len(set(order))}: {_shortened(order)}" if order else UNDEFINED


def _recognised(run: RunResult) -> str:
    boundaries = run.boundaries
    mistaken = f"; {number(boundaries.mistaken)} mistaken for an earlier one" if boundaries.mistaken else ""
    return f"{number(boundaries.recognised)} of {number(boundaries.returns)}{mistaken}"


def _adds_up(run: RunResult) -> str:
    missing = run.samples.unaccounted
    return "yes" if missing == 0 else f"no, off by {number(abs(missing))}"


def _shortened(names: Sequence[str], at_most: int = 8) -> str:
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return " → ".join(names[:at_most]) + more
