"""Runs a scenario offline: the loop, evaluation and boundary detection of a service, from memory."""

import json
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from lethe.evaluation.boundary_scores import BoundaryVerdict, match_detected
from lethe.events import BatchLearned, Event
from lethe.experiments.bench.withheld_labels import WithheldLabels
from lethe.ingest.memory_feed import MemoryFeed, decode_all
from lethe.learners.base import Learner
from lethe.learners.state import JSON
from lethe.observability.result import RunResult
from lethe.runtime.factories import create_learner
from lethe.runtime.from_python.learn import learn_feed
from lethe.settings import BatchSettings, DriftSettings, EvaluationSettings, LearnerSettings, Settings
from lethe_producers.datasets import default_root
from lethe_producers.order import Order
from lethe_producers.probes import probes_of
from lethe_producers.records import Records
from lethe_producers.scenario import Scenario

__all__ = ["EVERY", "OfflineResult", "OfflineRun", "run_learner_offline", "run_offline"]

EVERY: Final = EvaluationSettings().every
"""Default number of samples between two evaluations, as in a service."""

_SHUFFLES: Final = 1
"""Distinguishes the generator that shuffles a stream from others with the same seed."""


@dataclass(frozen=True, slots=True)
class OfflineRun:
    """The learner and the stream of an offline run."""

    learner: str
    scenario: Scenario
    seed: int = 0
    samples: int | None = None
    """Limit of samples per segment."""
    shuffled: bool = False
    """All segments in one random order: an upper reference without boundaries."""
    oracle: bool = False
    """The learner is given the true boundaries instead of the detected ones."""
    options: Mapping[str, JSON] = field(default_factory=dict)
    validation: bool = False
    """Probes are the validation splits, which are removed from the stream: for choosing options."""
    batch: int | None = None
    """Batch size; None is the learner's own."""
    estimate: bool = False
    """Also estimate the accuracy on the stream from confidences."""
    evaluate_every: int = EVERY
    """Samples between two evaluations; a smaller number shows more of the stability gap."""
    root: Path = field(default_factory=default_root)

    @property
    def stream(self) -> str:
        """The scenario's name, with the probes' split if it is not the test split."""
        return f"{self.scenario.name} (validation)" if self.validation else self.scenario.name

    @property
    def title(self) -> str:
        """The learner's name and the options given to it."""
        return " ".join([self.learner, *(f"{name}={_plain(value)}" for name, value in self.options.items())])

    @property
    def given_boundaries(self) -> bool:
        """Whether the learner is given the true boundaries, and there are any."""
        return self.oracle and not self.shuffled


@dataclass(frozen=True, slots=True)
class OfflineResult:
    """The result of an offline run."""

    run: RunResult
    learning_seconds: float
    """Seconds of all training steps: prediction, learning and boundary detection, without evaluation."""
    state_bytes: int
    """Bytes of the learner's state."""
    offered: int
    """Records of the stream; a learner that spends its privacy budget stops before the end."""
    ramps: list[tuple[int, int]]
    """Gradual boundaries: samples learned before each begins, and until it ends."""

    @property
    def accuracy(self) -> float:
        """Mean accuracy over all probes at the end: ACC if every segment was learned."""
        last = self.run.evaluations[-1].accuracy
        return sum(last.values()) / len(last)

    @property
    def verdict(self) -> BoundaryVerdict:
        """Match of detected and true boundaries; unlike a service, it knows how long each ramp lasts."""
        switches = [switch.samples for switch in self.run.switches[1:]]
        return match_detected(switches, self.run.boundaries.detected, self.ramps)

    @property
    def samples_per_second(self) -> float:
        """Samples learned per second of training steps."""
        return self.run.samples.learned / self.learning_seconds


def run_offline(offline: OfflineRun) -> OfflineResult:
    """Learn the stream once and return the result.

    Raises InvalidSetting for an unknown learner or option, DataUnavailable if a data set is not on this
    machine.
    """
    chosen = LearnerSettings(name=offline.learner, seed=offline.seed, options=dict(offline.options))
    return run_learner_offline(create_learner(chosen, offline.scenario.layout, offline.batch), offline)


def run_learner_offline(
    learner: Learner,
    offline: OfflineRun,
    on_event: Callable[[Event], None] = lambda _: None,
    withheld: WithheldLabels | None = None,
) -> OfflineResult:
    """Learn the stream once with an untrained learner, which need not be registered.

    ``on_event`` is called with each event. The labels of the samples that ``withheld`` chooses are not given
    to the learner.

    Raises DataUnavailable if a data set is not on this machine.
    """
    layout = offline.scenario.layout
    order = Order(offline.scenario, offline.seed, offline.samples)
    records = Records(order, offline.root)
    places = [index for index in range(len(records)) if not (offline.validation and records.held_out(index))]
    if offline.shuffled:
        rng = np.random.default_rng((offline.seed, _SHUFFLES))
        places = [places[nth] for nth in rng.permutation(len(places)).tolist()]
    chosen = LearnerSettings(name=learner.name, seed=offline.seed)
    settings = Settings(
        learner=chosen,
        batch=BatchSettings(size=offline.batch or learner.batch_size, slots=2),
        drift=DriftSettings(oracle=offline.oracle),
        evaluation=EvaluationSettings(every=offline.evaluate_every, estimate=offline.estimate),
    )
    probes = probes_of(offline.scenario, offline.root, "validation" if offline.validation else "test")
    seconds = 0.0

    def count(event: Event) -> None:
        nonlocal seconds
        if isinstance(event, BatchLearned):
            seconds += event.step_seconds
        on_event(event)

    samples = decode_all(map(records.at, places), not offline.shuffled, layout)
    if withheld is not None:
        samples = withheld.withhold(samples)
    feed = MemoryFeed(samples, len(places), settings.batch, layout)
    run_state = learn_feed(learner, feed, probes, settings, predictions=withheld, on_event=count)
    state = learner.state().tensors.values()
    ramps = [] if offline.shuffled else _ramps(order, places)
    return OfflineResult(
        run_state.result(), seconds, sum(tensor.nbytes for tensor in state), len(places), ramps
    )


def _ramps(order: Order, places: Sequence[int]) -> list[tuple[int, int]]:
    """Return the ramps in samples of the stream, without malformed records."""
    learned = [place for place in places if order.at(place).fault is None] if order.ramps else []
    return [(bisect_left(learned, begin), bisect_left(learned, end)) for begin, end in order.ramps]


def _plain(value: JSON) -> str:
    return value if isinstance(value, str) else json.dumps(value)
