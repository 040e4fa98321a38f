"""Compares models that were measured on the same probes, and decides which one is to be served.

A model is as good as its worst case: WC-ACC = (1/k) A(current) + (1 − 1/k) × the mean over the other k − 1
skills of the least accuracy, over the evaluations since its latest visit began (De Lange et al. 2023). The
skills are all that any of the models was visited with, so that a model does not win by knowing fewer.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lethe.evaluation.score_formulas import min_acc, wc_acc
from lethe.events import SCORES
from lethe.observability.result import RunResult

__all__ = ["Candidate", "Comparison", "Incomparable", "compare"]


class Incomparable(ValueError):
    """The models were not measured alike."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model and its worst case."""

    name: str
    address: str
    wc_acc: float
    accuracy: Mapping[str, float]
    """Latest accuracy on each skill."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The champion, which serves now, and its challengers."""

    candidates: tuple[Candidate, ...]
    """The champion first."""
    margin: float
    current: str
    """The skill that counts as it is now; the others count with their worst."""

    @property
    def champion(self) -> Candidate:
        """The model that serves now."""
        return self.candidates[0]

    @property
    def winner(self) -> Candidate:
        """The best challenger if it is better than the champion by the margin or more; else the champion."""
        best = max(self.candidates, key=lambda candidate: candidate.wc_acc)
        return best if best.wc_acc - self.champion.wc_acc >= max(self.margin, 1e-12) else self.champion


def compare(runs: Mapping[str, RunResult], margin: float, current: str | None = None) -> Comparison:
    """Compare models by name, the champion first.

    ``current`` is by default the champion's latest segment. Raises Incomparable for fewer than two models,
    for one that has failed or was not measured, for a
    challenger that does not answer, and for different probes.
    """
    if len(runs) < 2:
        raise Incomparable("a champion and at least one challenger are needed")
    first, *others = runs.items()
    for name, run in runs.items():
        if run.failure is not None:
            raise Incomparable(f"{name} has failed: {run.failure}")
        if not run.evaluations:
            raise Incomparable(f"{name} was not measured")
    for name, run in others:
        if run.unknown is not None:
            raise Incomparable(f"{name} does not answer, so that it cannot be served: {run.unknown}")
        for what, of in (("probes", "probes"), ("images of each probe", "probe_subset"), ("seed", "seed")):
            was, now = getattr(first[1], of), getattr(run, of)
            if was != now:
                raise Incomparable(f"{what}: {first[0]} was measured with {was}, {name} with {now}")
        if first[1].probe_hashes != run.probe_hashes:
            raise Incomparable(f"probes: those of {first[0]} and of {name} hold other images")
    visited = {segment for run in runs.values() for segment in run.segments}
    skills = [probe for probe in first[1].probes if probe in visited] or list(first[1].probes)
    latest = next((segment for segment in reversed(first[1].segments) if segment in skills), skills[-1])
    if current is not None and current not in skills:
        raise Incomparable(f"{current} is no skill of these models: {', '.join(skills)}")
    chosen = current or latest
    return Comparison(
        tuple(_candidate(name, run, skills, chosen) for name, run in runs.items()), margin, chosen
    )


def _candidate(name: str, run: RunResult, skills: list[str], current: str) -> Candidate:
    last = run.evaluations[-1]
    served = [point.accuracy for point in run.evaluations if point.visit == last.visit]
    worst = min_acc([[accuracy[skill] for accuracy in served] for skill in skills if skill != current])
    score = wc_acc(last.accuracy[current], worst, len(skills))
    if score is None:
        raise Incomparable(f"{name} has no {SCORES['wc_acc'].label}")
    return Candidate(name, run.broker, score, {skill: last.accuracy[skill] for skill in skills})
