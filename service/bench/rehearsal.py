"""A scenario learned from memory: the loop, the evaluations and the drift of a service, without a broker."""

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from producers.datasets import default_root
from producers.order import Order
from producers.probes import probes_of
from producers.records import Records
from producers.scenario import Scenario
from service.bench.record_feed import RecordFeed
from service.drift.verdict import Verdict, judge
from service.drift.watch import Watch
from service.evaluation.history import History
from service.events import BatchLearned, Event
from service.journal import Journal
from service.learners.base import JSON, Learner
from service.loop import Loop
from service.parts import create_evaluator, create_learner
from service.result import RunResult
from service.settings import EvaluationSettings, LearnerSettings, Settings
from service.slots import BatchSettings
from service.wire import Layout

__all__ = ["EVERY", "Rehearsal", "Rehearsed", "rehearse", "rehearse_with"]

EVERY: Final = EvaluationSettings().every
"""Samples between two evaluations, where nobody asks for others: as in a service."""

_SHUFFLES: Final = 1
"""Tells the generator that shuffles a stream from every other one with the same seed."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Which learner learns which stream."""

    learner: str
    scenario: Scenario
    seed: int = 0
    samples: int | None = None
    """At most so many of each segment."""
    shuffled: bool = False
    """All segments at once, in random order: what the learner could reach if nothing ever changed."""
    oracle: bool = False
    """The learner is told of the switches instead of the boundaries detected."""
    options: Mapping[str, JSON] = field(default_factory=dict)
    validation: bool = False
    """The probes are the validation splits, whose rows the stream then lacks: what options are chosen on."""
    evaluate_every: int = EVERY
    """Samples between two evaluations: a finer cadence sees more of what a switch costs for a while."""
    root: Path = field(default_factory=default_root)

    @property
    def stream(self) -> str:
        """The scenario's name, and that of the split of the probes where it is not the test split."""
        return f"{self.scenario.name} (validation)" if self.validation else self.scenario.name

    @property
    def title(self) -> str:
        """The learner's name, and the options that it was given."""
        return " ".join([self.learner, *(f"{name}={_plain(value)}" for name, value in self.options.items())])

    @property
    def told(self) -> bool:
        """The learner hears of a switch, as there are switches."""
        return self.oracle and not self.shuffled


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What came of it."""

    run: RunResult
    learning_seconds: float
    """Of all lessons: predicting, learning and looking for boundaries, but no evaluation."""
    state_bytes: int
    """What a checkpoint of the learner holds."""
    offered: int
    """Records of the stream: a learner whose privacy is spent stops before its end."""
    ramps: list[tuple[int, int]]
    """Where one subject gives way to another little by little: samples learned before, and until its end."""

    @property
    def accuracy(self) -> float:
        """The mean over all probes at the end: ACC, where every segment was met."""
        last = self.run.evaluations[-1].accuracy
        return sum(last.values()) / len(last)

    @property
    def verdict(self) -> Verdict:
        """How well the switches were found by one who knows, unlike a service, how long each lasts."""
        switches = [switch.samples for switch in self.run.switches[1:]]
        return judge(switches, [found.samples for found in self.run.boundaries.detected], self.ramps)

    @property
    def samples_per_second(self) -> float:
        """Samples learned in a second of lessons."""
        return self.run.samples.learned / self.learning_seconds


def rehearse(rehearsal: Rehearsal) -> Rehearsed:
    """Learn the stream, once, and return what came of it.

    Raises InvalidSetting for a learner or an option that does not exist, DataUnavailable when a
    data set is not on this machine.
    """
    chosen = LearnerSettings(name=rehearsal.learner, seed=rehearsal.seed, options=dict(rehearsal.options))
    return rehearse_with(create_learner(chosen, Layout()), rehearsal)


def rehearse_with(learner: Learner, rehearsal: Rehearsal) -> Rehearsed:
    """Do the same with an untrained learner that need not be known by a name.

    Raises DataUnavailable when a data set is not on this machine.
    """
    order = Order(rehearsal.scenario, rehearsal.seed, rehearsal.samples)
    records = Records(order, rehearsal.root)
    places = [
        index for index in range(len(records)) if not (rehearsal.validation and records.held_out(index))
    ]
    if rehearsal.shuffled:
        rng = np.random.default_rng((rehearsal.seed, _SHUFFLES))
        places = [places[nth] for nth in rng.permutation(len(places)).tolist()]
    chosen = LearnerSettings(name=learner.name, seed=rehearsal.seed)
    settings = Settings(
        learner=chosen,
        batch=BatchSettings(size=learner.batch_size, slots=2),
        evaluation=EvaluationSettings(every=rehearsal.evaluate_every),
    )
    probes = probes_of(rehearsal.scenario, rehearsal.root, "validation" if rehearsal.validation else "test")
    history = History([probe.name for probe in probes])
    journal = Journal(settings, type(learner), history)
    seconds = 0.0

    def emit(event: Event) -> None:
        nonlocal seconds
        journal(event)
        if isinstance(event, BatchLearned):
            seconds += event.step_seconds

    Loop(
        feed=RecordFeed(map(records.at, places), len(places), settings.batch, not rehearsal.shuffled),
        learner=learner,
        evaluator=create_evaluator(probes, settings),
        evaluate_every=settings.evaluation.every,
        history=history,
        emit=emit,
        stopping=lambda: False,
        watch=Watch(),
        oracle=rehearsal.oracle,
    ).run()
    state = learner.state().tensors.values()
    ramps = [] if rehearsal.shuffled else _ramps(order, places)
    return Rehearsed(journal.result(), seconds, sum(tensor.nbytes for tensor in state), len(places), ramps)


def _ramps(order: Order, places: Sequence[int]) -> list[tuple[int, int]]:
    """Return the ramps of the places that are streamed, malformed ones not counted."""
    learned = [place for place in places if order.at(place).fault is None] if order.ramps else []
    return [(bisect_left(learned, begin), bisect_left(learned, end)) for begin, end in order.ramps]


def _plain(value: JSON) -> str:
    return value if isinstance(value, str) else json.dumps(value)
