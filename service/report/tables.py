"""What is a table: R as a heat map, every score with its definition, the samples' whereabouts."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from service.report.words import UNDEFINED, mebibytes, number, percent, points, seconds
from service.result import RunResult

__all__ = ["glance", "matrix", "measurement", "samples", "scores"]


@dataclass(frozen=True, slots=True)
class _Score:
    name: str
    brief: str
    formula: str
    meaning: str
    value: Callable[[RunResult], str]


SCORES: Final = (
    _Score(
        "ACC",
        "mean accuracy on the subjects seen so far",
        "(1/T) Σ_j R[T,j]",
        "Average accuracy on the probes of all T segments seen so far.",
        lambda run: percent(run.acc),
    ),
    _Score(
        "BWT",
        "what learning on did to old skills, in points",
        "1/(T−1) Σ_{j<T} (R[T,j] − R[j,j])",
        "Backward transfer: what learning on did to old skills, in points. Below zero is forgetting.",
        lambda run: points(run.bwt),
    ),
    _Score(
        "FWT",
        "what earlier subjects taught about later ones, in points",
        "1/(T−1) Σ_{j≥2} (R[j−1,j] − R[0,j])",
        "Forward transfer: how much earlier segments helped with later ones before these began, in points.",
        lambda run: points(run.fwt),
    ),
    _Score(
        "Forgetting",
        "how far old skills are below their best, in points",
        "mean of f_j = max_{l<T} R[l,j] − R[T,j]",
        "How far each old skill is below its best at a segment's end, in points; where no segments are "
        "named, how far each probe's subset is below its best in any evaluation.",
        lambda run: points(run.forgetting),
    ),
    _Score(
        "min-ACC",
        "old skills at their worst moment",
        "mean of min_n A(E_j, f_n)",
        "The worst moment of each old skill since its segment ended: sees dips that recover.",
        lambda run: percent(run.min_acc),
    ),
    _Score(
        "WC-ACC",
        "the current skill as it is, old ones at their worst",
        "(1/k) A(E_k) + (1 − 1/k) min-ACC",
        "Worst-case accuracy: the current skill as it is, the old ones at their worst moment.",
        lambda run: percent(run.wc_acc),
    ),
    _Score(
        "WF",
        "the most that a skill fell within a window, in points",
        "mean of max A(E_j, f_m) − A(E_j, f_n) for b_j ≤ m < n < m + w",
        "Windowed forgetting: how far each skill fell within w evaluations at most since it was first taught "
        "(b_j is the last evaluation before that), in points.",
        lambda run: points(run.windowed_forgetting),
    ),
    _Score(
        "WP",
        "the most that a skill rose within a window, in points",
        "mean of max A(E_j, f_n) − A(E_j, f_m) for m < n < m + w, n ≤ b_j or b_j ≤ m",
        "Windowed plasticity: how far each skill rose within w evaluations at most, in points.",
        lambda run: points(run.windowed_plasticity),
    ),
    _Score(
        "Anytime accuracy",
        "mean of ACC over all evaluations",
        "mean over evaluations of ACC so far",
        "What one would have found when looking at a random moment.",
        lambda run: percent(run.anytime_accuracy),
    ),
    _Score(
        "ECE",
        "how far confidence is from accuracy",
        "Σ_m (n_m/n) |acc_m − conf_m|, 15 bins",
        "Expected calibration error: how far the learner's confidence is from its accuracy.",
        lambda run: percent(run.ece),
    ),
    _Score(
        "Prequential accuracy",
        "predicted right before it was learned",
        "right answers / samples",
        "Test-then-train: each sample is predicted before it is learned.",
        lambda run: percent(run.prequential_accuracy),
    ),
)
"""Sources: the modules of `service.evaluation`."""


def matrix(run: RunResult) -> str:
    """R with its numbers, shaded by accuracy; a frame marks what a segment has just taught."""
    head = "".join(f'<th scope="col">{escape(probe)}</th>' for probe in run.probes)
    rows = []
    for after, row in enumerate(run.R):
        taught = run.segments[after - 1] if after else None
        label = "untrained" if taught is None else f"{after} {taught}"
        cells = "".join(
            f'<td class="cell{" taught" if probe == taught else ""}" style="--heat:{100 * value:.0f}%">'
            f"{100 * value:.1f}</td>"
            for probe, value in zip(run.probes, row, strict=True)
        )
        rows.append(f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>')
    return (
        '<div class="scroll"><table class="matrix"><thead><tr><th scope="col">after segment</th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def scores(runs: Sequence[RunResult]) -> str:
    """Every score of every learner, with what it means and how it is computed."""
    rows = [
        (
            f"{score.name}<small>{escape(score.meaning)}</small><code>{escape(score.formula)}</code>",
            [score.value(run) for run in runs],
        )
        for score in SCORES
    ]
    return _by_learner(runs, rows)


def glance(run: RunResult) -> str:
    """Every score of one learner, in a line each."""
    rows = (
        f"<div><dt>{score.name}<small>{escape(score.brief)}</small></dt><dd>{score.value(run)}</dd></div>"
        for score in SCORES
    )
    return f'<dl class="glance">{"".join(rows)}</dl>'


def samples(runs: Sequence[RunResult]) -> str:
    """Where every record went, malformed ones by reason."""
    rows = [
        (
            "received<small>records taken from the topic</small>",
            [number(run.samples.received) for run in runs],
        ),
        ("learned<small>once, each</small>", [number(run.samples.learned) for run in runs]),
        (
            "discarded<small>after learning, pixels dropped</small>",
            [number(run.samples.discarded) for run in runs],
        ),
        (
            "dead-lettered<small>malformed, set aside with the reason</small>",
            [number(run.samples.dead_lettered) for run in runs],
        ),
    ]
    reasons = sorted({reason for run in runs for reason in run.dead_letters})
    rows += [
        (
            f'<span class="sub">{escape(reason)}</span>',
            [number(run.dead_letters.get(reason, 0)) for run in runs],
        )
        for reason in reasons
    ]
    rows += [
        ("lost<small>never served by the broker</small>", [number(run.samples.lost) for run in runs]),
        ("resident<small>still held at the end</small>", [number(run.samples.resident) for run in runs]),
        ("received = learned + dead-lettered + resident", [_adds_up(run) for run in runs]),
    ]
    return _by_learner(runs, rows)


def measurement(runs: Sequence[RunResult]) -> str:
    """How, on what and for how long it was measured."""
    facts: Sequence[tuple[str, Callable[[RunResult], str]]] = (
        ("scenario", lambda run: run.scenario or UNDEFINED),
        ("segments", lambda run: f"{len(run.segments)}: {_shortened(run.segments)}"),
        ("broker", lambda run: run.broker),
        ("seed", lambda run: str(run.seed)),
        ("evaluated every", lambda run: f"{number(run.evaluate_every)} samples"),
        ("images of each probe then", lambda run: number(run.probe_subset)),
        ("evaluations in a window, w", lambda run: number(run.window)),
        ("evaluations shown", lambda run: number(len(run.evaluations))),
        ("duration", lambda run: seconds(run.seconds)),
        ("of which evaluating", lambda run: seconds(run.evaluation_seconds)),
        ("samples a second", lambda run: number(run.samples_per_second)),
        ("largest memory (RSS)", lambda run: mebibytes(run.peak_rss_bytes)),
        ("keeps of the samples", lambda run: run.retains),
        ("differential privacy", _spent),
        ("boundaries found", _found),
        ("samples until they were", _delays),
        ("false alarms", lambda run: number(run.boundaries.false_alarms) if run.segments else UNDEFINED),
        ("regimes told apart", _regimes),
        ("regimes recognised as they came back", _recognised),
    )
    return _by_learner(runs, [(name, [escape(value(run)) for run in runs]) for name, value in facts])


def _by_learner(runs: Sequence[RunResult], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Return a table with a row for each (heading, values), whose texts are HTML already."""
    head = "".join(f'<th scope="col">{escape(run.learner)}</th>' for run in runs)
    body = "".join(
        f'<tr><th scope="row">{heading}</th>{"".join(f"<td>{value}</td>" for value in values)}</tr>'
        for heading, values in rows
    )
    return (
        f'<div class="scroll"><table class="facts"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _spent(run: RunResult) -> str:
    """What a private learner has spent, and if that ended it."""
    if run.privacy is None:
        return "none"
    end = "; learning ended there" if run.privacy.spent else ""
    return f"ε = {run.privacy.epsilon:.3g} of {run.privacy.budget:.3g}, δ = {run.privacy.delta:.0e}{end}"


def _found(run: RunResult) -> str:
    if not run.segments:
        return f"{number(len(run.boundaries.detected))}, the stream names no segments"
    switches = len(run.boundaries.delays)
    return f"{number(switches - run.boundaries.missed)} of {number(switches)}"


def _delays(run: RunResult) -> str:
    found = [delay for delay in run.boundaries.delays if delay is not None]
    return ", ".join(number(delay) for delay in found[:8]) + (", …" if len(found) > 8 else "") or UNDEFINED


def _regimes(run: RunResult) -> str:
    order = [str(told.regime) for told in run.boundaries.regimes]
    return f"{len(set(order))}: {_shortened(order)}" if order else UNDEFINED


def _recognised(run: RunResult) -> str:
    judged = run.boundaries
    mistaken = f"; {number(judged.mistaken)} new ones taken for old" if judged.mistaken else ""
    return f"{number(judged.recognised)} of {number(judged.returns)}{mistaken}"


def _adds_up(run: RunResult) -> str:
    count = run.samples
    missing = count.received - count.learned - count.dead_lettered - count.resident
    return "yes" if missing == 0 else f"no, off by {number(abs(missing))}"


def _shortened(segments: Sequence[str], most: int = 8) -> str:
    more = f" and {len(segments) - most} more" if len(segments) > most else ""
    return " → ".join(segments[:most]) + more
