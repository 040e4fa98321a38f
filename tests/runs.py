"""A whole run of the loop over a feed in memory, with everything that it did kept for a look."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from service.evaluation.evaluator import Evaluator
from service.evaluation.history import History
from service.events import Event
from service.learners.base import Learned, LearnerContext
from service.learners.finetune import Finetune
from service.loop import Loop
from service.probeset import ProbeSet
from tests.feeds import LAYOUT, Item, MemoryFeed, images

__all__ = ["EVERY", "Remembering", "Run", "learn"]

E = TypeVar("E")

EVERY = 32
"""Samples between two evaluations; four batches of the memory feed."""


class Remembering(Finetune):
    """`Finetune` that, against the contract, keeps what it was given: copies, and the views themselves."""

    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context)
        self.learned: list[Tensor] = []
        self.views: list[Tensor] = []
        self.predicted = 0

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        self.learned.append(x_BCHW.clone())
        self.views += [x_BCHW, y_B]
        return super().learn(x_BCHW, y_B)

    def predict(self, x_BCHW: Tensor) -> Tensor:
        self.predicted += 1
        return super().predict(x_BCHW)


@dataclass
class Run:
    """What one run of the loop did."""

    feed: MemoryFeed
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
    items: Iterable[Item] | MemoryFeed,
    *,
    probes: Sequence[str] = ("a", "b"),
    every: int = EVERY,
    stopping: Stopping = lambda run: False,
    learner: Remembering | None = None,
) -> Run:
    """Run the loop over ``items`` until they, or ``stopping``, end it."""
    feed = items if isinstance(items, MemoryFeed) else MemoryFeed(items)
    run = Run(feed, learner or Remembering(LearnerContext(LAYOUT)), History(probes), [])
    loop = Loop(
        feed=feed,
        learner=run.learner,
        evaluator=Evaluator([probe(name) for name in probes], subset=10, seed=0) if probes else None,
        evaluate_every=every,
        history=run.history,
        emit=run.events.append,
        stopping=lambda: stopping(run),
    )
    loop.run()
    return run


def probe(name: str) -> ProbeSet:
    x_NCHW, y_N = images(40, seed=99)
    return ProbeSet(name, x_NCHW, y_N, "made up", "none needed")
