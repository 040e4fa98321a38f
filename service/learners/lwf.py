"""Learning without forgetting: the network of before teaches the network of today, on today's images.

Shapes: B batch, K classes.
"""

from copy import deepcopy
from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from service.learners.base import LearnerContext, Retention, State
from service.learners.gradient import GradientLearner, GradientOptions, Step
from service.learners.lagged import Lagged

__all__ = ["LwF", "LwFOptions"]


class LwFOptions(GradientOptions):
    """How much the network of before is listened to."""

    strength: float = Field(default=0.3, ge=0)
    """α, of the distillation beside the cross entropy."""
    temperature: float = Field(default=2.0, gt=0)
    """T, by which scores are divided: larger ones teach more of what is unlikely."""
    lag: int = Field(default=2048, ge=0)
    """Samples within which a boundary is noticed; it goes back to one to two times as many before that. 0
    for boundaries that are told in time."""


class LwF(GradientLearner):
    """Minimises cross entropy + α T² KL(teacher's probabilities ‖ its own), both at temperature T.

    The teacher is the network as it was ``lag`` to twice ``lag`` samples before the last boundary was
    noticed; before the first there is none. The learner itself goes back to there, too, and its optimizer
    begins anew: the first steps on another regime do the most harm. On images of the new regime, the
    teacher's answers say what the old one needs.

    It keeps weights only: the network four times, today's, the teacher's and two copies of a while
    ago. After the first boundary a step costs one more forward pass.
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
        self._taught = False
        self._lagged = Lagged(self._model.state_dict(), self._options.lag)

    def boundary(self) -> None:
        """Make the network as it was before the boundary the teacher."""
        before = self._lagged.before()
        if before is not None:
            self._teacher.load_state_dict(before)
            self._taught = True
            self._rewind(before)
        self._lagged.restart(self._seen)

    def _objective(self, step: Step) -> Tensor:
        if not self._taught:
            return step.loss
        options = self._options
        with torch.no_grad():
            taught_BK = (self._teacher(step.x_BCHW) / options.temperature).log_softmax(1)
        own_BK = (step.scores_BK / options.temperature).log_softmax(1)
        apart = nn.functional.kl_div(own_BK, taught_BK, log_target=True, reduction="batchmean")
        return step.loss + options.strength * options.temperature**2 * apart

    def _after_step(self, _: Step) -> None:
        self._lagged.saw(self._seen)

    def state(self) -> State:
        """Return also the teacher and the copies of a while ago."""
        state = super().state()
        teacher = {f"teacher.{name}": t.contiguous() for name, t in self._teacher.state_dict().items()}
        return State(
            {**state.tensors, **teacher, **self._lagged.tensors()},
            {**state.values, "taught": self._taught, **self._lagged.values()},
        )

    def load_state(self, state: State) -> None:
        """Copy all of ``state`` into this learner."""
        super().load_state(state)
        for name, tensor in self._teacher.state_dict().items():
            tensor.copy_(state.tensors[f"teacher.{name}"])
        self._taught = cast("bool", state.values["taught"])
        self._lagged.load(state)
