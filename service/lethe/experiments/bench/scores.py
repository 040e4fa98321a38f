"""Scores of single runs, and their summaries over the seeds."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import mean, stdev
from typing import Final

from pydantic import ConfigDict

from lethe.events import SCORES, Scores
from lethe.experiments.bench.offline_run import OfflineResult, OfflineRun

__all__ = ["JOINT", "MEASURES", "Key", "Score", "Summary", "basis", "summarise"]

JOINT: Final = "joint"

Key = tuple[str, str, int, bool]
"""Scenario, learner, seed and given boundaries: unique for each score."""
_ALIASES: Final = {"given_boundaries": "told"} | {
    name: info.key for name, info in SCORES.items() if info.key is not None
}
"""Keys in files that differ from the name of the field."""


class Score(Scores):
    """Scores of one learner on one scenario with one seed; None if a score is not defined.

    ``scenario`` and ``learner`` are `OfflineRun.stream` and `OfflineRun.title`, so that validation splits
    and other options have rows of their own.
    """

    model_config = ConfigDict(
        alias_generator=lambda name: _ALIASES.get(name, name), populate_by_name=True, serialize_by_alias=True
    )

    scenario: str
    learner: str
    seed: int
    retains: str
    acc: float
    probes: dict[str, float]
    """The accuracy on each probe at the end, of which ``acc`` is the mean."""
    below_joint: float | None
    """ACC of the same learner on the shuffled stream minus ACC; None if not requested."""
    samples_per_second: float
    state_bytes: int
    boundaries: int
    """True boundaries of the stream."""
    found: int
    false_alarms: int
    offered: int
    """Records of the stream. This and the next two are equal for all scores that are compared."""
    evaluate_every: int
    """Samples between two evaluations, on which WC-ACC, anytime accuracy, WF and WP depend."""
    probe_subset: int
    """Images of each probe per evaluation."""
    given_boundaries: bool = False
    """Whether the learner was given the true boundaries, so that detection had no effect."""
    delay: float | None = None
    """Mean number of samples from a boundary to its detection; None if none was detected."""
    longest_delay: float | None = None
    returns: int | None = None
    """Number of returns of the stream to an earlier segment."""
    recognised: int | None = None
    """Number of returns that were recognised as the earlier regime."""

    @property
    def key(self) -> Key:
        """The unique key of the score."""
        return self.scenario, self.learner, self.seed, self.given_boundaries

    @classmethod
    def of(cls, offline: OfflineRun, name: str, result: OfflineResult, joint: float | None) -> "Score":
        """Return the score of an offline run; ``joint`` is the learner's accuracy on the shuffled stream."""
        run, verdict = result.run, result.verdict
        delays = [delay for delay in verdict.delays if delay is not None]
        scores = {name: getattr(run, name) for name in SCORES if name != "acc"}
        return cls(
            **scores,
            scenario=offline.stream,
            learner=name,
            seed=offline.seed,
            retains=run.retains,
            acc=result.accuracy,
            probes=result.run.evaluations[-1].accuracy,
            below_joint=None if joint is None else joint - result.accuracy,
            samples_per_second=result.samples_per_second,
            state_bytes=result.state_bytes,
            boundaries=len(verdict.delays),
            found=len(delays),
            false_alarms=verdict.false_alarms,
            given_boundaries=offline.given_boundaries,
            delay=mean(delays) if delays else None,
            longest_delay=max(delays, default=None),
            returns=run.boundaries.returns,
            recognised=run.boundaries.recognised,
            offered=result.offered,
            evaluate_every=run.evaluate_every,
            probe_subset=run.probe_subset,
        )


_NOT_MEASURED: Final = frozenset({"scenario", "learner", "seed", "retains", "probes", "given_boundaries"})
MEASURES: Final = {
    field.alias or name: name for name, field in Score.model_fields.items() if name not in _NOT_MEASURED
}
"""The numeric fields of a score, by their key in files."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean and standard deviation over the seeds; the deviation is None for a single seed."""

    scenario: str
    learner: str
    retains: str
    seeds: int
    measures: dict[str, tuple[float, float | None] | None]
    probes: dict[str, float]
    """Mean accuracy on each probe at the end."""
    given_boundaries: bool

    def to_json(self) -> dict[str, object]:
        """Return the summary as ``lethe bench learners --json`` prints it."""
        return {_ALIASES.get(name, name): value for name, value in asdict(self).items()}


def summarise(scores: Sequence[Score]) -> list[Summary]:
    """Return one summary per learner and scenario, in the order of their first scores.

    Runs with and without the true boundaries are summarised separately.
    """
    scenarios = {score.scenario: None for score in scores}
    groups: dict[tuple[str, str, bool], list[Score]] = {}
    for score in sorted(scores, key=lambda score: list(scenarios).index(score.scenario)):
        groups.setdefault((score.scenario, score.learner, score.given_boundaries), []).append(score)
    return [
        Summary(
            scenario=scenario,
            learner=learner,
            retains=group[0].retains,
            seeds=len(group),
            measures={
                key: _spread([getattr(score, name) for score in group]) for key, name in MEASURES.items()
            },
            probes={probe: mean(score.probes[probe] for score in group) for probe in group[0].probes},
            given_boundaries=given_boundaries,
        )
        for (scenario, learner, given_boundaries), group in groups.items()
    ]


def basis(summaries: Sequence[Summary]) -> str:
    """Describe in words what the numbers are computed over."""
    seeds = max(summary.seeds for summary in summaries)
    return "one seed" if seeds == 1 else f"mean ± standard deviation over {seeds} seeds"


def _spread(values: Sequence[float | None]) -> tuple[float, float | None] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return mean(known), stdev(known) if len(known) > 1 else None
