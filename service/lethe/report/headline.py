"""The headline of a run: the probe that lost most, and its accuracy before and after."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lethe.evaluation.objective import FORGOTTEN, LEARNED
from lethe.events import SCORES
from lethe.observability.result import RunResult
from lethe.report.formatting import number, percent

__all__ = ["Headline", "headline"]

KEPT: Final = 0.02
"""Loss of accuracy below which a probe counts as kept."""


@dataclass(frozen=True, slots=True)
class Headline:
    """One sentence on the probe that lost most: "finetune forgot mnist: 97.7 % → 30.1 % while …"."""

    verdict: str
    numbers: str
    circumstance: str


def headline(run: RunResult) -> Headline:
    """Return the sentence that sums up ``run``."""
    watched = run.source == "watched"
    if (run.samples.learned or (watched and run.forgetting_by_probe)) and not run.segments:
        return _without_segments(run)
    if watched and not run.forgetting_by_probe:
        knows = " and ".join(dict.fromkeys(run.segments)) or "none of the probes yet"
        return Headline(f"{run.learner} knows {knows}", percent(run.acc), "watched, nothing is old yet")
    if run.acc is None or not run.R:
        return Headline(
            f"{run.learner} has finished no segment", number(run.samples.learned), "samples learned"
        )
    if not run.forgetting_by_probe:
        return Headline(f"{run.learner} learned {run.segments[0]}", percent(run.acc), "average accuracy")
    probe, lost = max(run.forgetting_by_probe.items(), key=lambda item: item[1])
    # forgetting is as of the latest evaluation, which may be within a segment
    after = run.evaluations[-1].accuracy[probe] if run.evaluations else run.R[-1][run.probes.index(probe)]
    return Headline(
        f"{run.learner} {_verdict(run.forgetting_by_probe, probe)}",
        f"{percent(after + lost)} → {percent(after)}",
        f"while learning {_what_followed(run, probe)}",
    )


def _without_segments(run: RunResult) -> Headline:
    """Compare each probe with its own best accuracy, both on the probe's subset."""
    now = run.evaluations[-1].on_subset if run.evaluations else {}
    learned = {name: lost for name, lost in run.forgetting_by_probe.items() if now[name] + lost >= LEARNED}
    if not learned:
        return Headline(
            f"{run.learner} has learned {number(run.samples.learned)} samples",
            percent(run.prequential_accuracy),
            SCORES["prequential_accuracy"].label.lower(),
        )
    probe = max(learned, key=lambda name: learned[name])
    return Headline(
        f"{run.learner} {_verdict(learned, probe)}",
        f"{percent(now[probe] + learned[probe])} → {percent(now[probe])}",
        "from its best to the latest evaluation",
    )


def _verdict(forgetting: Mapping[str, float], probe: str) -> str:
    lost = forgetting[probe]
    if lost >= FORGOTTEN:
        verb, alike = "forgot", sum(value >= FORGOTTEN for value in forgetting.values())
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
