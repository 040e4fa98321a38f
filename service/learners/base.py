"""What a learner is: a strategy with its model, fed one batch at a time, each batch once.

Shapes: B batch, C channels, H height, W width, K classes.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

import torch
from torch import Tensor

from service.learners import options
from service.learners.predictor import Predictor
from service.wire import Layout

__all__ = ["JSON", "Learned", "Learner", "LearnerContext", "Retention", "State"]

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]


class Retention(StrEnum):
    """What a learner keeps of the samples it saw, from least to most."""

    NOTHING = "nothing"
    """Only weights that gradient descent left behind."""
    STATISTICS = "statistics"
    """Sums, means or covariances over samples; not anonymous by themselves."""
    GENERATIVE = "generative"
    """A model from which samples like the seen ones can be drawn."""
    SAMPLES = "samples"
    """Some of the samples themselves."""


@dataclass(frozen=True, slots=True)
class LearnerContext:
    """What every learner is built from.

    ``options`` are what the user chose; a learner reads them with ``Options.of``.
    """

    layout: Layout
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    options: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Learned:
    """What one call of `Learner.learn` reports.

    ``predicted_B`` (int64, on the CPU) are the classes predicted *before* the batch was
    learned: test-then-train. ``loss`` is the batch's mean loss, before learning, where the
    learner has one.
    """

    predicted_B: Tensor
    loss: float | None


@dataclass(frozen=True, slots=True)
class State:
    """All that a learner needs to go on as if it had never stopped: tensors and plain JSON.

    The other two only save time. What they hold is no part of what states are compared by.
    """

    tensors: Mapping[str, Tensor]
    values: Mapping[str, JSON]
    solved: Mapping[str, Tensor] = field(default_factory=dict)
    """What follows from the tensors, and would take long to compute again; never written to."""
    marks: Mapping[str, object] = field(default_factory=dict)
    """For tensors that often stay as they are: while the mark is the same object, so is every bit."""


class Learner(ABC):
    """Learns from batches of images, once each, and predicts classes.

    The contract, which ``tests/test_learner_contract.py`` checks for every entry of
    `service.learners.LEARNERS`:

    - the same context and the same batches give bit-identical states;
    - `learn` reads its arguments and keeps no reference to them: the caller overwrites the
      pixels as soon as it returns;
    - `learn` raises DivergedLoss, before any part of the state changes, when the loss of the
      batch is not finite;
    - `predict` and `predictor` never change what is learned afterwards;
    - ``load_state(state())`` on a fresh learner goes on bit-identically.
    """

    name: ClassVar[str]
    """What ``--learner`` calls it."""
    retains: ClassVar[Retention]
    """The most that it keeps of any sample."""
    summary: ClassVar[str]
    """What it is, in one line."""
    paper: ClassVar[str]
    """Where the method comes from."""
    batch_size: ClassVar[int] = 64
    """The ``--batch-size`` that suits it; it takes any."""
    Options: ClassVar[type[options.Options]] = options.Options
    """What a user may choose about it."""
    why_not_unlearn: ClassVar[str] = "what it keeps is no sum over samples"
    """Why it cannot forget a sample exactly, unless it can: `service.learners.unlearning`."""

    @abstractmethod
    def __init__(self, context: LearnerContext) -> None:
        """Build an untrained learner.

        Raises ValueError for images that it cannot take, InvalidSetting for bad options.
        """

    @abstractmethod
    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        """Predict the batch, then learn it.

        ``x_BCHW`` is uint8, ``y_B`` int64, both on the CPU; B is at least 1 and may differ
        from call to call. Raises DivergedLoss.
        """

    def boundary(self) -> None:
        """Hear that another regime begins with the next batch; a learner may make nothing of it.

        It is called between two batches, by a run that detects where the stream changes or is told.
        """
        return  # most methods need none

    @abstractmethod
    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return class probabilities, float32 of shape [B, K] on the CPU, for uint8 images."""

    def predictor(self) -> Predictor:
        """Return what predicts as this learner does now, in another thread and whatever is learned meanwhile.

        It costs the learning thread about as long as a copy: a learner with a large state overrides this
        and copies only what predicts; one that would have to solve first returns what it last solved, and
        says how far that is ``behind``.
        """
        return Predictor(copy.deepcopy(self).predict)

    @property
    def kept(self) -> int:
        """Samples themselves that it keeps now; a learner that retains samples overrides this."""
        return 0

    @abstractmethod
    def state(self) -> State:
        """Return the learner's whole state; the tensors may be its own, so copy before learning on."""

    @abstractmethod
    def load_state(self, state: State) -> None:
        """Take over a state that `state` of a learner with the same context returned."""
