"""Averaged gradient episodic memory: no step increases the loss of stored samples, to first order."""

from typing import ClassVar

import torch
from torch import Tensor

from lethe.learners.base import LearnerContext
from lethe.learners.gradient.base import Step
from lethe.learners.gradient.replay import RehearsalLearner

__all__ = ["AGEM"]


class AGEM(RehearsalLearner):
    """Projects the gradient g so that it does not point against the gradient g_M of stored samples.

    If g · g_M < 0, g becomes g − (g · g_M / ‖g_M‖²) g_M. Stores ``capacity`` raw samples. A step costs
    two of finetune's.
    """

    name: ClassVar[str] = "agem"
    summary: ClassVar[str] = "steps that would increase the loss of stored samples are projected"
    paper: ClassVar[str] = "Chaudhry et al. 2019, Efficient Lifelong Learning with A-GEM"

    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context)
        self._reference: list[Tensor] = []  # gradient of stored samples for the current step

    def _objective(self, step: Step) -> Tensor:
        self._reference = []
        if not self._reservoir:
            return step.loss
        kept = self._cross_entropy(
            self._reservoir.draw(self._options.rehearsed, self._derived_generator("draw"))
        )
        weights = [*self._parameters.values()]
        self._reference = list(torch.autograd.grad(kept, weights, materialize_grads=True))
        return step.loss + 0 * kept.detach()  # not finite if that of the stored samples is not

    def _before_step(self, _: Step) -> None:
        pairs = [
            (parameter.grad, reference)
            for parameter, reference in zip(self._parameters.values(), self._reference, strict=False)
            if parameter.grad is not None
        ]
        along = sum(float((own * kept).sum()) for own, kept in pairs)
        length = sum(float((kept * kept).sum()) for _, kept in pairs)
        if along < 0 < length:
            for own, kept in pairs:
                own.sub_(kept, alpha=along / length)
        self._reference = []
