"""Averaged gradient episodic memory: no step may raise the loss of what was kept."""

import math
from typing import ClassVar

import torch

from service.errors import DivergedLoss
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

    def _before_step(self, _: Step) -> None:
        if not self._reservoir:
            return
        loss = self._cross_entropy(self._reservoir.draw(self._options.rehearsed, self._dice("draw")))
        if not math.isfinite(loss.item()):
            raise DivergedLoss(
                f"the cross entropy of {self._options.rehearsed} samples kept is {loss.item()}"
            )
        pairs = [
            (parameter.grad, reference)
            for parameter, reference in zip(
                self._parameters.values(),
                torch.autograd.grad(loss, list(self._parameters.values())),
                strict=True,
            )
            if parameter.grad is not None
        ]
        along = float(torch.stack([(own * kept).sum() for own, kept in pairs]).sum())
        length = float(torch.stack([(kept * kept).sum() for _, kept in pairs]).sum())
        if along < 0 < length:
            for own, kept in pairs:
                own.sub_(kept, alpha=along / length)
