"""Learning without forgetting: distillation from the network as it was before the last boundary.

Shapes: B batch, K classes.
"""

from copy import deepcopy
from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from lethe.learners.base import LearnerContext, Retention
from lethe.learners.gradient.averaged import AveragedLearner
from lethe.learners.gradient.base import GradientOptions, Step
from lethe.learners.gradient.lagged import LaggedSnapshots
from lethe.learners.state import State

__all__ = ["LwF", "LwFOptions"]


class LwFOptions(GradientOptions):
    """Weight and temperature of the distillation."""

    strength: float = Field(default=0.3, ge=0)
    """α: weight of the distillation relative to the cross entropy."""
    temperature: float = Field(default=2.0, gt=0)
    """T: divisor of the scores; larger values transfer more of the unlikely classes."""
    lag: int = Field(default=2048, ge=0)
    """Samples within which a boundary is detected; the network is restored from a snapshot that is one to two
    times as old. 0 for boundaries that are known in advance."""


class LwF(AveragedLearner):
    """Minimises cross entropy + α T² KL(teacher's probabilities ‖ its own), both at temperature T.

    The teacher is the network as it was ``lag`` to twice ``lag`` samples before the last boundary was
    detected; before the first boundary there is none. The learner itself is restored from then, too, and its
    optimizer is reset, because the first steps on another regime do the most harm. On images of the new
    regime the teacher's scores preserve the response that the old one needs.

    It retains weights only: four copies of the network, namely the current one, the teacher and two
    snapshots. After the first boundary a step costs one more forward pass.
    """

    name: ClassVar[str] = "lwf"
    retains: ClassVar[Retention] = Retention.NOTHING
    summary: ClassVar[str] = "a network that is taught by what it was before the last boundary"
    paper: ClassVar[str] = "Li & Hoiem 2016, Learning without Forgetting"
    Options: ClassVar[type[LwFOptions]] = LwFOptions
    _options: LwFOptions

    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context)
        self._teacher = deepcopy(self._model).eval().requires_grad_(False)
        self._has_teacher = False
        self._lagged = LaggedSnapshots(self._model.state_dict, self._options.lag)

    def boundary(self) -> None:
        """Make the network of before the boundary the teacher, and restore it."""
        before = self._lagged.before()
        if before is not None:
            self._teacher.load_state_dict(before)
            self._has_teacher = True
            self._rewind(before)
        self._lagged.restart(self._seen)

    def _objective(self, step: Step) -> Tensor:
        if not self._has_teacher:
            return step.loss
        options = self._options
        with torch.no_grad():
            target_BK = (self._teacher(step.x_BCHW) / options.temperature).log_softmax(1)
        own_BK = (step.scores_BK / options.temperature).log_softmax(1)
        apart = nn.functional.kl_div(own_BK, target_BK, log_target=True, reduction="batchmean")
        return step.loss + options.strength * options.temperature**2 * apart

    def _after_step(self, _: Step) -> None:
        self._lagged.saw(self._seen)

    def state(self) -> State:
        """Return also the teacher and the snapshots."""
        state = super().state()
        teacher = {f"teacher.{name}": t.contiguous() for name, t in self._teacher.state_dict().items()}
        return State(
            {**state.tensors, **teacher, **self._lagged.tensors()},
            {**state.values, "taught": self._has_teacher, **self._lagged.values()},
        )

    def load_state(self, state: State) -> None:
        """Copy all of ``state`` into this learner."""
        super().load_state(state)
        for name, tensor in self._teacher.state_dict().items():
            tensor.copy_(state.tensors[f"teacher.{name}"])
        self._has_teacher = cast("bool", state.values["taught"])
        self._lagged.load(state)
