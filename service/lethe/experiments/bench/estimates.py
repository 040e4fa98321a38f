"""Measures how far the accuracy that is estimated from confidences alone is from the true one."""

from dataclasses import dataclass
from statistics import fmean
from typing import Final

from lethe.errors import InvalidSetting
from lethe.evaluation.prequential import Prequential
from lethe.events import BatchLearned, Event, RecordsUnlabelled, SegmentStarted
from lethe.experiments.bench.offline_run import OfflineRun, run_learner_offline
from lethe.experiments.bench.withheld_labels import WithheldLabels
from lethe.learners.base import Learner
from lethe.runtime.factories import create_learner
from lethe.settings import LearnerSettings
from lethe_producers.scenario import load_scenario

__all__ = ["SETTLED", "EstimateError", "measure_estimate"]

SETTLED: Final = 2000
"""Samples after which a switch is over: twice what the fading accuracy remembers."""


@dataclass(frozen=True, slots=True)
class EstimateError:
    """Mean distances of the estimated from the true fading accuracy on all samples, batch by batch."""

    scenario: str
    learner: str
    unlabelled: float
    """Share of the samples whose label was withheld."""
    steady: float
    """Away from switches."""
    after_switch: float | None
    """Within `SETTLED` samples after a switch; None without any."""
    largest: float


def measure_estimate(
    learner: str, scenario: str, seed: int, samples: int | None, unlabelled: float = 0.0
) -> EstimateError:
    """Learn ``scenario`` once; ``samples`` limits each segment, a share of ``unlabelled`` has no label.

    The untrained learner's first `SETTLED` samples do not count. Raises InvalidSetting, InvalidScenario,
    DataUnavailable.
    """
    loaded = load_scenario(scenario)
    offline = OfflineRun(learner, loaded, seed, samples, estimate=True)
    created: Learner = create_learner(LearnerSettings(name=learner, seed=seed), loaded.layout)
    withheld = WithheldLabels(unlabelled, seed)
    steady, after = list[float](), list[float]()
    true = Prequential()
    switched = segments = 0

    def on_event(event: Event) -> None:
        nonlocal switched, segments
        match event:
            case SegmentStarted():
                segments, switched = segments + 1, true.samples
            case RecordsUnlabelled():  # before its batch is accounted for as learned
                true.add(event.count, withheld.correct)
            case BatchLearned(estimated=float(estimated)):
                true.add(event.samples, event.correct)
                if true.samples > SETTLED and true.fading is not None:
                    near = segments > 1 and true.samples - switched <= SETTLED
                    (after if near else steady).append(abs(estimated - true.fading))
            case _:
                return

    run_learner_offline(created, offline, on_event, withheld)
    if not steady:
        raise InvalidSetting(
            f"--samples: more than {SETTLED} samples of a learner with probabilities are needed"
        )
    return EstimateError(
        loaded.name,
        learner,
        unlabelled,
        fmean(steady),
        fmean(after) if after else None,
        max([*steady, *after]),
    )
