"""Runs the loop over a feed in memory and records everything it does."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from lethe.evaluation.evaluator import Evaluator
from lethe.evaluation.history import History
from lethe.events import MIN_SEGMENT, Event
from lethe.learners.base import Learned, LearnerContext
from lethe.learners.gradient.finetune import Finetune
from lethe.privacy.controls import Controls
from lethe.probeset import ProbeSet
from lethe.runtime.loop import Loop
from lethe.runtime.persistence import Persistence
from lethe.runtime.predictions import Predictions
from tests.support.feeds import LAYOUT, Item, ScriptedFeed, images

__all__ = ["EVERY", "Remembering", "Run", "learn"]

E = TypeVar("E")

EVERY = 32
"""Samples between two evaluations; four batches of the memory feed."""


class Remembering(Finetune):
    """`Finetune` that, against the contract, stores its batches, both cloned and as views."""

    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context)
        self.learned: list[Tensor] = []
        self.views: list[Tensor] = []
        self.predicted = 0

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        self.learned.append(x_BCHW.clone())
        self.views += [x_BCHW, y_B]
        return super().learn(x_BCHW, y_B)

    def predict_proba(self, x_BCHW: Tensor) -> Tensor:
        self.predicted += 1
        return super().predict_proba(x_BCHW)


@dataclass
class Run:
    """The record of one run of the loop."""

    feed: ScriptedFeed
    learner: Remembering
    history: History
    events: list[Event]

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def images(self) -> np.ndarray:
        return torch.cat(self.learner.learned).numpy()


Stopping = Callable[[Run], bool]


def learn(
    items: Iterable[Item] | ScriptedFeed,
    *,
    probes: Sequence[str] = ("a", "b"),
    every: int = EVERY,
    stopping: Stopping = lambda run: False,
    learner: Remembering | None = None,
    apart: bool = False,
    prequential: bool = True,
    least: int = MIN_SEGMENT,
    history: History | None = None,
    persistence: Persistence | None = None,
    predictions: Predictions | None = None,
) -> Run:
    """Run the loop over ``items`` until they, or ``stopping``, end it."""
    feed = items if isinstance(items, ScriptedFeed) else ScriptedFeed(items)
    run = Run(
        feed, learner or Remembering(LearnerContext(LAYOUT)), history or History(probes, least=least), []
    )
    controls = Controls()
    controls.residency_seconds = 60.0 if apart else None
    controls.publishes_prequential = prequential
    loop = Loop(
        feed=feed,
        learner=run.learner,
        evaluator=Evaluator([probe(name) for name in probes], subset=10, seed=0) if probes else None,
        evaluate_every=every,
        history=run.history,
        emit=run.events.append,
        stopping=lambda: stopping(run),
        controls=controls,
        persistence=persistence,
        predictions=predictions or Predictions(),
    )
    loop.run()
    return run


def probe(name: str) -> ProbeSet:
    x_NCHW, y_N = images(40, seed=99)
    return ProbeSet(name, x_NCHW, y_N, "made up", "none needed")
