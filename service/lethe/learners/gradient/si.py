"""Synaptic intelligence: a weight mattered if its movement lowered the loss."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from lethe.learners.base import LearnerContext, Retention
from lethe.learners.gradient.base import Step
from lethe.learners.gradient.weight_importance import (
    WeightImportanceLearner,
    WeightImportanceOptions,
    Weights,
)

__all__ = ["SI", "SIOptions"]


class SIOptions(WeightImportanceOptions):
    """How strongly weights are held, and how the path integral becomes an importance."""

    damping: float = Field(default=1e-3, gt=0)
    """ξ: keeps the importance of weights that hardly moved finite."""


class SI(WeightImportanceLearner):
    """Importance is a weight's contribution to the decrease of the loss, over the squared distance it moved.

    ω = −Σ g Δθ over the steps of a regime is the path integral of the gradient g along the path of a weight:
    its share of the decrease of the loss. At a boundary Ω = ω / ((θ − θ*)² + ξ), where θ* is the weight at
    the previous boundary. Δθ is the optimizer's movement alone, without the effect of the penalty.

    It retains one sum per weight. `WeightImportanceLearner` states cost and state.
    """

    name: ClassVar[str] = "si"
    retains: ClassVar[Retention] = Retention.STATISTICS
    summary: ClassVar[str] = "a network whose weights are held in proportion to what they did for the loss"
    paper: ClassVar[str] = "Zenke, Poole & Ganguli 2017, Continual Learning Through Synaptic Intelligence"
    Options: ClassVar[type[SIOptions]] = SIOptions
    _options: SIOptions

    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context)
        self._begun: dict[str, tuple[Tensor, Tensor]] = {}  # weights and gradients of the step being taken

    def _before_step(self, _: Step) -> None:
        self._begun = {
            name: (parameter.detach().clone(), parameter.grad)
            for name, parameter in self._parameters.items()
            if parameter.grad is not None
        }

    def _after_step(self, step: Step) -> None:
        for name, (before, gradient) in self._begun.items():
            self._gathered[name].addcmul_(gradient, self._parameters[name].detach() - before, value=-1)
        self._begun = {}
        super()._after_step(step)

    def _importance_of(self, gathered: Weights, weight: Weights) -> Weights:
        return {
            name: (sum_ / ((weight[name] - self._anchor[name]) ** 2 + self._options.damping)).clamp_(min=0)
            for name, sum_ in gathered.items()
        }
