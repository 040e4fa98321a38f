"""The learner contract: a model with its training strategy, fed one batch at a time, each batch once.

Shapes: B batch, C channels, H height, W width, K classes, F numbers of a vector.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lethe.errors import DivergedLoss, InvalidSetting
from lethe.learners import options
from lethe.learners.capabilities import Capability
from lethe.learners.motion import Motion
from lethe.learners.predictor import Predictor
from lethe.learners.state import JSON, State
from lethe.wire import Layout

__all__ = ["Learned", "Learner", "LearnerContext", "Retention"]


class Retention(StrEnum):
    """What a learner retains of the samples it has seen, from least to most."""

    NOTHING = "nothing"
    """Weights trained by gradient descent only."""
    STATISTICS = "statistics"
    """Sums, means or covariances over samples; not anonymous by themselves."""
    GENERATIVE = "generative"
    """A model that can draw samples like those seen."""
    SAMPLES = "samples"
    """Some of the samples themselves."""


@dataclass(frozen=True, slots=True)
class LearnerContext:
    """What every learner is built from.

    ``options`` are the user's choices, which a learner reads with ``Options.of``. ``batch_size`` is the
    number of samples in most batches; a user's network is checked with a batch of that size.
    """

    layout: Layout
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    options: Mapping[str, JSON] = field(default_factory=dict)
    batch_size: int = 64


@dataclass(frozen=True, slots=True)
class Learned:
    """The result of one call of `Learner.learn`.

    ``predicted_B`` (int64, on the CPU) are the classes predicted *before* the batch was learned
    (test-then-train). ``loss`` is the mean loss of the batch by the same predictions; None for a learner that
    reports none. ``regime_B`` (int64, on the CPU) is the regime to whose sums each sample was added; None for
    a learner that keeps no sums by regime (`lethe.learners.capabilities.UnlearnsFromRegimes`).

    ``probabilities`` computes, from the same forward pass, the class probabilities behind ``predicted_B``:
    float32 of shape [B, K], on the CPU. It is called at most once, before the next batch is learned, and only
    where somebody wants them, so it may refer to scores but not to pixels. It is None unless
    `Learner.reports_probabilities`; then `Learner.predict_proba` is asked before `Learner.learn`.
    """

    predicted_B: Tensor
    loss: float | None
    regime_B: Tensor | None = None
    probabilities: Callable[[], Tensor] | None = None


class Learner(ABC):
    """Learns from batches of samples, each once, and predicts classes.

    Samples are images, uint8 of shape [B, C, H, W]. Of a layout with ``features`` they are vectors, float32
    of shape [B, F], every number finite; the argument is called ``x_BCHW`` all the same. A learner that takes
    no vectors raises ValueError, with what to use instead, when it is built for such a layout.

    The contract, which `lethe.learners.checks.checks_for` tests:

    - the same context and the same batches give bit-identical states;
    - `learn` keeps no reference to its arguments: the caller overwrites the pixels when it returns;
    - `learn` raises DivergedLoss, before any part of the state changes, when the loss of the batch is not
      finite;
    - `predict_proba` and `predictor` never change what is learned afterwards;
    - a fresh learner continues bit-identically after ``load_state(state())``.

    What a learner can do beyond this it declares by mix-ins: `lethe.learners.capabilities`.
    """

    name: ClassVar[str]
    """The name by which ``--learner`` selects it."""
    retains: ClassVar[Retention]
    """The most that it retains of any sample; see `retention`."""
    summary: ClassVar[str]
    """What it is, in one line."""
    paper: ClassVar[str]
    """The reference of the method."""
    batch_size: ClassVar[int] = 64
    """The default of ``--batch-size`` with this learner; any size works."""
    reports_probabilities: ClassVar[bool] = False
    """Whether `learn` returns `Learned.probabilities`: they then take no second forward pass."""
    evaluate_every: ClassVar[int] = 5000
    """The default of ``--evaluate-every`` with this learner, in samples."""
    Options: ClassVar[type[options.Options]] = options.Options
    """The model of its options."""
    resumable: ClassVar[bool] = True
    """Whether `state` is all of it, so that a checkpoint can restore it."""
    not_exported: ClassVar[str] = "it offers no torch module that predicts as it does"
    """The reason why `module` raises InvalidSetting, if it does."""
    capabilities: ClassVar[frozenset[Capability]] = frozenset()
    """What it can do beyond the contract; follows from the mix-ins among its bases."""
    lacks: ClassVar[Mapping[Capability, str]] = {
        Capability.UNLEARNS: "its state is not a sum over samples",
        Capability.MERGES: "its state is not a sum over samples",
        Capability.POOLS: "its state is neither a sum over samples nor made by steps on an average gradient",
        Capability.EXPIRES: "it stores no samples, or cannot delete the oldest",
        Capability.PRIVATE: "it adds no noise to what it retains",
    }
    """Reasons why capabilities are missing. A class gives those that differ from the ones of its bases."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls.capabilities = frozenset(
            vars(base)["provides"] for base in cls.__mro__ if "provides" in vars(base)
        )

    @classmethod
    def why_not(cls, capability: Capability) -> str:
        """Return why the learner lacks ``capability``; an empty string if it has it."""
        if capability in cls.capabilities:
            return ""
        reasons = (vars(base).get("lacks", {}) for base in cls.__mro__)
        return next(str(known[capability]) for known in reasons if capability in known)

    @classmethod
    def retention(cls, layout: Layout, options: Mapping[str, JSON]) -> Retention:
        """Return the most that it retains of any sample with these settings: `retains`, or more."""
        del layout, options  # they matter to some learners only
        return cls.retains

    @abstractmethod
    def __init__(self, context: LearnerContext) -> None:
        """Build an untrained learner.

        Raises ValueError for a layout that it cannot take, InvalidSetting for bad options.
        """

    @abstractmethod
    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        """Predict the batch, then learn it.

        ``x_BCHW`` is uint8 of shape [B, C, H, W], or float32 of shape [B, F] for vectors, ``y_B`` int64 of
        shape [B], both on the CPU; B is at least 1 and may differ from call to call. Raises DivergedLoss: an
        implementation calls `require_finite` before it changes anything.
        """

    @staticmethod
    def require_finite(samples: int, **numbers: float) -> None:
        """Raise DivergedLoss unless all ``numbers`` of a batch of so many ``samples`` are finite.

        The keywords name the numbers in the message, with underscores for spaces.
        """
        if not all(map(math.isfinite, numbers.values())):
            listed = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in numbers.items())
            raise DivergedLoss(f"a batch of {samples} samples is not learned: {listed}")

    def boundary(self) -> None:
        """Called between two batches, at a task boundary; the default does nothing.

        The run calls it when its drift detector raises an alarm or when the boundary is known.
        """
        return  # most methods need none

    @abstractmethod
    def predict_proba(self, x_BCHW: Tensor) -> Tensor:
        """Return class probabilities, float32 of shape [B, K] on the CPU, for samples as in `learn`."""

    def module(self) -> nn.Module:
        """Return what `predict_proba` computes now as a torch module on the CPU, to be exported.

        It takes uint8 images of shape [B, C, H, W], or float32 vectors of shape [B, F], and returns
        probabilities, float32 of shape [B, K]. Raises InvalidSetting, with the reason, for a learner that
        cannot be exported.
        """
        raise InvalidSetting(f"learner {self.name} cannot be exported: {self.not_exported}")

    def predictor(self) -> Predictor:
        """Return a snapshot that predicts as this learner does at this moment, in another thread.

        Taking it costs the learning thread about as much as a copy of the learner. A learner with a large
        state overrides this and copies only what predictions need. One that would have to solve first returns
        its last solution and states in ``behind`` how many samples that lacks.
        """
        return Predictor(copy.deepcopy(self).predict_proba)

    @property
    def kept(self) -> int:
        """Number of samples stored at this moment; overridden if ``retains`` is `Retention.SAMPLES`."""
        return 0

    @property
    def motion(self) -> Motion | None:
        """How the weights moved when last measured, a new object each time; None without steps."""
        return None

    @abstractmethod
    def state(self) -> State:
        """Return the whole state. The tensors may be the learner's own: copy them before it learns on."""

    @abstractmethod
    def load_state(self, state: State) -> None:
        """Copy a state that `state` of a learner with the same context returned."""
