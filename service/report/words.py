"""Numbers as people read them, and the headline made from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from service.result import RunResult

__all__ = ["UNDEFINED", "Headline", "headline", "mebibytes", "number", "percent", "points", "seconds"]

UNDEFINED: Final = "–"
"""Stands where a score is not defined."""
FORGOT: Final = 0.10
"""A skill that lost at least this much is called forgotten."""
KEPT: Final = 0.02
"""A skill that lost less than this is called kept."""
KNOWN: Final = 0.50
"""Where no segment says what was taught, a skill whose best is below this was never there."""

_THIN: Final = "\N{NARROW NO-BREAK SPACE}"
_MINUS: Final = "\N{MINUS SIGN}"


def percent(ratio: float | None) -> str:
    """0.977 as 97.7 %."""
    return UNDEFINED if ratio is None else f"{_signed(100 * ratio, '.1f')}{_THIN}%"


def points(ratio: float | None) -> str:
    """A difference of two accuracies, in percentage points: −0.676 as −67.6."""
    return UNDEFINED if ratio is None else _signed(100 * ratio, "+.1f")


def number(value: float) -> str:
    """1234567 as 1 234 567, rounded to a whole number."""
    return f"{value:,.0f}".replace(",", _THIN)


def seconds(value: float) -> str:
    """A duration: 4.2 s, or 3 min 25 s."""
    if value < 120:
        return f"{value:.1f}{_THIN}s"
    minutes, rest = divmod(round(value), 60)
    return f"{number(minutes)}{_THIN}min {rest}{_THIN}s"


def mebibytes(count: int) -> str:
    """A size in memory, in MiB."""
    return f"{number(count / 2**20)}{_THIN}MiB"


@dataclass(frozen=True, slots=True)
class Headline:
    """What became of the skill that suffered most: "finetune forgot mnist: 97.7 % → 30.1 % while …"."""

    verdict: str
    numbers: str
    circumstance: str


def headline(run: RunResult) -> Headline:
    """Return the one sentence about ``run`` that a newcomer should read."""
    if run.samples.learned and not run.segments:
        return _without_segments(run)
    if run.acc is None or not run.R:
        return Headline(f"{run.learner} finished no segment", number(run.samples.learned), "samples learned")
    if not run.forgetting_by_probe:
        return Headline(f"{run.learner} learned {run.segments[0]}", percent(run.acc), "average accuracy")
    probe, lost = max(run.forgetting_by_probe.items(), key=lambda item: item[1])
    # a segment may still be going on: what is lost, and so what is left, is as of the latest evaluation
    after = run.evaluations[-1].accuracy[probe] if run.evaluations else run.R[-1][run.probes.index(probe)]
    return Headline(
        f"{run.learner} {_verdict(run.forgetting_by_probe, probe)}",
        f"{percent(after + lost)} → {percent(after)}",
        f"while learning {_what_followed(run, probe)}",
    )


def _without_segments(run: RunResult) -> Headline:
    """Nobody says what is taught: a skill is held against its own best, on the images of the subset."""
    now = run.evaluations[-1].on_subset if run.evaluations else {}
    known = {name: lost for name, lost in run.forgetting_by_probe.items() if now[name] + lost >= KNOWN}
    if not known:
        return Headline(
            f"{run.learner} has learned {number(run.samples.learned)} samples",
            percent(run.prequential_accuracy),
            "predicted right before they were learned",
        )
    probe = max(known, key=lambda name: known[name])
    return Headline(
        f"{run.learner} {_verdict(known, probe)}",
        f"{percent(now[probe] + known[probe])} → {percent(now[probe])}",
        "from its best to the latest evaluation",
    )


def _verdict(forgetting: Mapping[str, float], probe: str) -> str:
    lost = forgetting[probe]
    if lost >= FORGOT:
        verb, alike = "forgot", sum(value >= FORGOT for value in forgetting.values())
    elif lost >= KEPT:
        return f"lost some of {probe}"
    else:
        verb, alike = "kept", len(forgetting)
    return f"{verb} {probe}" if alike == 1 else f"{verb} {probe} and {alike - 1} more"


def _what_followed(run: RunResult, probe: str) -> str:
    seen = run.segments
    later = seen[seen.index(probe) + 1 :] if probe in seen else seen
    names = [name for name in dict.fromkeys(later) if name != probe]
    if not names:
        return "it again"
    if len(names) <= 2:
        return " and ".join(names)
    return f"{names[0]} and {len(names) - 1} more"


def _signed(value: float, form: str) -> str:
    shown = format(value, form)
    if float(shown) == 0:  # −0.04 rounds to a zero, which has no sign
        shown = format(0.0, form.lstrip("+"))
    return shown.replace("-", _MINUS)
