"""Measures how far the accuracy that is estimated from confidences alone is from the measured one."""

from dataclasses import dataclass
from statistics import fmean
from typing import Final

from lethe.errors import InvalidSetting
from lethe.events import BatchLearned, Event, SegmentStarted
from lethe.experiments.bench.offline_run import OfflineRun, run_learner_offline
from lethe.learners.base import Learner
from lethe.runtime.factories import create_learner
from lethe.settings import LearnerSettings
from lethe_producers.scenario import load_scenario

__all__ = ["SETTLED", "EstimateError", "measure_estimate"]

SETTLED: Final = 2000
"""Samples after which a switch is over: twice what the fading accuracy remembers."""


@dataclass(frozen=True, slots=True)
class EstimateError:
    """Mean distances of the estimated from the measured fading accuracy, batch by batch."""

    scenario: str
    learner: str
    steady: float
    """Away from switches."""
    after_switch: float | None
    """Within `SETTLED` samples after a switch; None without any."""
    largest: float


def measure_estimate(learner: str, scenario: str, seed: int, samples: int | None) -> EstimateError:
    """Learn ``scenario`` once; ``samples`` limits each segment.

    The untrained learner's first `SETTLED` samples do not count. Raises InvalidSetting, InvalidScenario,
    DataUnavailable.
    """
    loaded = load_scenario(scenario)
    offline = OfflineRun(learner, loaded, seed, samples, estimate=True)
    created: Learner = create_learner(LearnerSettings(name=learner, seed=seed), loaded.layout)
    steady, after = list[float](), list[float]()
    seen = switched = 0
    segments = 0

    def on_event(event: Event) -> None:
        nonlocal seen, switched, segments
        match event:
            case SegmentStarted():
                segments, switched = segments + 1, event.samples
            case BatchLearned(estimated=float(estimated), prequential_fading=float(measured)):
                seen += event.samples
                if seen > SETTLED:
                    near = segments > 1 and seen - switched <= SETTLED
                    (after if near else steady).append(abs(estimated - measured))
            case _:
                return

    run_learner_offline(created, offline, on_event)
    if not steady:
        raise InvalidSetting(
            f"--samples: more than {SETTLED} samples of a learner with probabilities are needed"
        )
    return EstimateError(
        loaded.name, learner, fmean(steady), fmean(after) if after else None, max([*steady, *after])
    )
