"""Memory aware synapses: a weight matters if the scores depend on it; labels are not used."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from lethe.learners.base import LearnerContext, Retention
from lethe.learners.gradient.base import Step
from lethe.learners.gradient.weight_importance import (
    WeightImportanceLearner,
    WeightImportanceOptions,
    Weights,
)

__all__ = ["MAS", "MASOptions"]


class MASOptions(WeightImportanceOptions):
    """How strongly weights are held, and how their importance is accumulated."""

    horizon: int = Field(default=20_000, ge=1)
    """Samples over which the importance is averaged, exponentially."""
    every: int = Field(default=256, ge=1)
    """Samples between two batches whose sensitivity is measured."""


class MAS(WeightImportanceLearner):
    """Importance is the mean of |∂‖s‖²/∂θ|: how much the scores s change when a weight does.

    It is accumulated from the batches as they are learned, one every ``every`` samples, whereas the original
    passes over the data of a regime again when it has ended. Such a batch costs one more backward pass.

    It retains one mean per weight. `WeightImportanceLearner` states the other cost and state.
    """

    name: ClassVar[str] = "mas"
    retains: ClassVar[Retention] = Retention.STATISTICS
    summary: ClassVar[str] = "a network whose weights are held in proportion to what the scores owe them"
    paper: ClassVar[str] = "Aljundi et al. 2018, Memory Aware Synapses: Learning What (Not) to Forget"
    Options: ClassVar[type[MASOptions]] = MASOptions
    _options: MASOptions

    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context)
        self._sensitivity: list[Tensor] = []  # of the scores of the batch being learned

    def _objective(self, step: Step) -> Tensor:
        self._sensitivity = []
        if self._measures(step):
            length = (step.scores_BK**2).sum(1).mean()
            weights = [*self._parameters.values()]
            parts = torch.autograd.grad(length, weights, retain_graph=True, materialize_grads=True)
            self._sensitivity = [*parts]
        return step.loss

    def _measures(self, step: Step) -> bool:
        return self._seen // self._options.every != (self._seen + step.samples) // self._options.every

    def _before_step(self, step: Step) -> None:
        if not self._measures(step):
            return
        if not len(step.y_B):  # a rank without a batch
            self._sensitivity = [torch.zeros_like(weight) for weight in self._parameters.values()]
        self._averaging.average(self._sensitivity, step.share)
        share = min(1.0, max(step.samples, self._options.every) / self._options.horizon)
        for gathered, sensitivity in zip(self._gathered.values(), self._sensitivity, strict=True):
            gathered.mul_(1 - share).add_(sensitivity.abs_(), alpha=share)
        self._sensitivity = []

    def _importance_of(self, gathered: Weights, _: Weights) -> Weights:
        return gathered
