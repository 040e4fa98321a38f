"""Evaluation does not change learning: every learner ends in the same state with and without it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lethe.checkpointing.checkpoint import state_digest
from lethe.evaluation.evaluator import Evaluator
from lethe.evaluation.history import History
from lethe.events import BatchLearned, Evaluated, Event
from lethe.learners.base import Learner, LearnerContext
from lethe.learners.gradient.finetune import Finetune
from lethe.learners.registry import LEARNERS
from lethe.probeset import ProbeSet
from lethe.runtime.loop import Loop
from lethe.wire import Layout, Pixels, Sample
from tests.support.feeds import ScriptedFeed

SMALL = Layout(height=8, width=8, classes=4)
"""The smallest layout that the contract requires."""
PROBES = ("a", "b")
EVERY = 16
"""Samples between two evaluations; two batches of the feed."""


def images(count: int, seed: int) -> tuple[Pixels, np.ndarray]:
    """Images of which each class has its own bright rows, under noise."""
    rng = np.random.default_rng(seed)
    y_N = rng.integers(0, SMALL.classes, count)
    x_NCHW = rng.integers(0, 200, (count, *SMALL.shape), np.uint8)
    x_NCHW[np.arange(count), 0, 2 * y_N] = 255
    return x_NCHW, y_N


def stream() -> list[Sample]:
    return [
        Sample(pixels, int(label), name)
        for seed, name in enumerate(PROBES)
        for pixels, label in zip(*images(100, seed), strict=True)
    ]


class Outcome:
    """The outcome of a run of the loop."""

    def __init__(self, kind: Callable[[LearnerContext], Learner], watched: bool) -> None:
        torch.manual_seed(0)
        events: list[Event] = []
        learner = kind(LearnerContext(SMALL, seed=1))
        self.history = History(PROBES if watched else ())
        probes = [ProbeSet(name, *images(40, seed=99), "made up", "none needed") for name in PROBES]
        Loop(
            feed=ScriptedFeed(stream(), layout=SMALL),
            learner=learner,
            evaluator=Evaluator(probes, subset=10, seed=0) if watched else None,
            evaluate_every=EVERY,
            history=self.history,
            emit=events.append,
            stopping=lambda: False,
        ).run()
        self.digest = state_digest(learner.state())
        self.random = torch.get_rng_state()
        self.batches = [(e.correct, e.loss, e.prequential) for e in events if isinstance(e, BatchLearned)]
        self.evaluations = sum(isinstance(event, Evaluated) for event in events)


@pytest.mark.parametrize("name", LEARNERS)
def test_evaluation_does_not_change_a_bit_of_the_learner(name: str) -> None:
    watched, alone = Outcome(LEARNERS[name], watched=True), Outcome(LEARNERS[name], watched=False)
    assert watched.evaluations == 1 + 200 // EVERY + len(PROBES)
    assert alone.evaluations == 0
    assert watched.digest == alone.digest
    assert watched.history.prequential == alone.history.prequential
    assert watched.batches == alone.batches
    assert len(alone.batches) == 200 // 8
    assert torch.equal(watched.random, alone.random)


class LearnsWhenAsked(Finetune):
    """Breaks the contract: a prediction trains it."""

    def predict_proba(self, x_BCHW: Tensor) -> Tensor:
        probabilities_BK = super().predict_proba(x_BCHW)
        self.learn(x_BCHW, probabilities_BK.argmax(1))
        return probabilities_BK


def test_a_learner_that_learns_from_evaluations_is_detected() -> None:
    watched, alone = Outcome(LearnsWhenAsked, watched=True), Outcome(LearnsWhenAsked, watched=False)
    assert watched.digest != alone.digest
    assert watched.batches != alone.batches
