"""What a scoreboard holds: scores of single runs, and their summaries over the seeds."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import mean, stdev
from typing import Final

from service.bench.rehearsal import Rehearsal, Rehearsed

__all__ = ["JOINT", "MEASURES", "Key", "Score", "Summary", "basis", "summarise"]

JOINT: Final = "joint"

Key = tuple[str, str, int, bool]
"""Scenario, learner, seed and told: what there is one score of."""


@dataclass(frozen=True, slots=True)
class Score:
    """One learner on one scenario with one seed; a measure that is not defined there is None.

    ``scenario`` and ``learner`` are `Rehearsal.stream` and `Rehearsal.title`: what was measured on a
    validation split, or with other options, is another row.
    """

    scenario: str
    learner: str
    seed: int
    retains: str
    acc: float
    probes: dict[str, float]
    """The accuracy on each probe at the end, of which ``acc`` is the mean."""
    bwt: float | None
    wc_acc: float | None
    anytime: float | None
    below_joint: float | None
    """By how much ACC is below that of the same learner on the shuffled stream; None if not asked for."""
    samples_per_second: float
    state_bytes: int
    boundaries: int
    """Switches of the stream."""
    found: int
    false_alarms: int
    offered: int
    """Records of the stream: this, and the next two, are the same where scores are compared."""
    evaluate_every: int
    """Samples between two evaluations, on which WC-ACC, anytime accuracy, WF and WP depend."""
    probe_subset: int
    """Images of each probe in such an evaluation."""
    told: bool = False
    """The learner was told of the switches: what was found in the stream made no difference."""
    windowed_forgetting: float | None = None
    """Of WF, WP and ECE see `service.result.RunResult`."""
    windowed_plasticity: float | None = None
    ece: float | None = None
    """At the end: the mean over the probes."""
    delay: float | None = None
    """The mean number of samples from a switch to its detection; None where none was found."""
    longest_delay: float | None = None
    returns: int | None = None
    """How often the stream came back to a segment of before."""
    recognised: int | None = None
    """How often the run told then that it is the regime of before."""

    @property
    def key(self) -> Key:
        """What no other score has."""
        return self.scenario, self.learner, self.seed, self.told

    @classmethod
    def of(cls, rehearsal: Rehearsal, name: str, came: Rehearsed, joint: float | None) -> "Score":
        """Return the score of a rehearsal; ``joint`` is the accuracy on the shuffled stream."""
        run, verdict = came.run, came.verdict
        delays = [delay for delay in verdict.delays if delay is not None]
        return cls(
            scenario=rehearsal.stream,
            learner=name,
            seed=rehearsal.seed,
            retains=run.retains,
            acc=came.accuracy,
            probes=came.run.evaluations[-1].accuracy,
            bwt=run.bwt,
            wc_acc=run.wc_acc,
            anytime=run.anytime_accuracy,
            below_joint=None if joint is None else joint - came.accuracy,
            samples_per_second=came.samples_per_second,
            state_bytes=came.state_bytes,
            boundaries=len(verdict.delays),
            found=len(delays),
            false_alarms=verdict.false_alarms,
            told=rehearsal.told,
            windowed_forgetting=run.windowed_forgetting,
            windowed_plasticity=run.windowed_plasticity,
            ece=run.ece,
            delay=mean(delays) if delays else None,
            longest_delay=max(delays, default=None),
            returns=run.boundaries.returns,
            recognised=run.boundaries.recognised,
            offered=came.offered,
            evaluate_every=run.evaluate_every,
            probe_subset=run.probe_subset,
        )


MEASURES: Final = tuple(
    f.name
    for f in fields(Score)
    if f.name not in {"scenario", "learner", "seed", "retains", "probes", "told"}
)
"""The fields of a score that are numbers."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean and standard deviation over the seeds; the deviation is None for a single one."""

    scenario: str
    learner: str
    retains: str
    seeds: int
    measures: dict[str, tuple[float, float | None] | None]
    probes: dict[str, float]
    """The mean accuracy on each probe at the end."""
    told: bool


def summarise(scores: Sequence[Score]) -> list[Summary]:
    """Return one summary for each learner, scenario by scenario, both in the order of their first scores.

    A learner that was told of the switches is another one than the same that was not.
    """
    scenarios = {score.scenario: None for score in scores}
    groups: dict[tuple[str, str, bool], list[Score]] = {}
    for score in sorted(scores, key=lambda score: list(scenarios).index(score.scenario)):
        groups.setdefault((score.scenario, score.learner, score.told), []).append(score)
    return [
        Summary(
            scenario=scenario,
            learner=learner,
            retains=group[0].retains,
            seeds=len(group),
            measures={name: _spread([getattr(score, name) for score in group]) for name in MEASURES},
            probes={probe: mean(score.probes[probe] for score in group) for probe in group[0].probes},
            told=told,
        )
        for (scenario, learner, told), group in groups.items()
    ]


def basis(summaries: Sequence[Summary]) -> str:
    """Return what the numbers are, in words."""
    seeds = max(summary.seeds for summary in summaries)
    return "one seed" if seeds == 1 else f"mean ± standard deviation over {seeds} seeds"


def _spread(values: Sequence[float | None]) -> tuple[float, float | None] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return mean(known), stdev(known) if len(known) > 1 else None
