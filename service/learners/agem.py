"""Averaged gradient episodic memory: no step may raise the loss of what was kept."""

from typing import ClassVar

import torch
from torch import Tensor

from service.learners.base import LearnerContext
from service.learners.gradient import Step
from service.learners.replay import Rehearsing

__all__ = ["AGEM"]


class AGEM(Rehearsing):
    """Projects the gradient g so that it does not point against the gradient g_M of samples kept.

    Where g · g_M < 0, g becomes g − (g · g_M / ‖g_M‖²) g_M. Keeps ``capacity`` raw samples. A step
    costs two of finetune's.
    """

    name: ClassVar[str] = "agem"
    summary: ClassVar[str] = "steps that would raise the loss of samples kept are turned aside"
    paper: ClassVar[str] = "Chaudhry et al. 2019, Efficient Lifelong Learning with A-GEM"

    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context)
        self._reference: list[Tensor] = []  # the gradient of samples kept, for the step being taken

    def _objective(self, step: Step) -> Tensor:
        self._reference = []
        if not self._reservoir:
            return step.loss
        kept = self._cross_entropy(self._reservoir.draw(self._options.rehearsed, self._dice("draw")))
        weights = [*self._parameters.values()]
        self._reference = list(torch.autograd.grad(kept, weights, materialize_grads=True))
        return step.loss + 0 * kept.detach()  # not finite where what was kept is not

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
