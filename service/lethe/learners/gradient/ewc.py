"""Elastic weight consolidation with a running Fisher information: no second pass, no sample kept."""

from typing import ClassVar

from pydantic import Field

from lethe.learners.base import Retention
from lethe.learners.gradient.base import Step
from lethe.learners.gradient.weight_importance import (
    WeightImportanceLearner,
    WeightImportanceOptions,
    Weights,
)

__all__ = ["EWC", "EWCOptions"]


class EWCOptions(WeightImportanceOptions):
    """How strongly weights are held, and how the Fisher information is accumulated."""

    horizon: int = Field(default=20_000, ge=1)
    """Samples over which the Fisher information is averaged, exponentially."""
    power: float = Field(default=0.5, gt=0, le=1)
    """Exponent of the Fisher information in the importance: 1 is the original EWC, ½ forgets less."""


class EWC(WeightImportanceLearner):
    """Importance is a power of the diagonal of the empirical Fisher information, E[g²] over samples.

    The original's power is 1. The square root is what SI and MAS approximate (Benzing 2022, Unifying
    Importance Based Regularisation Methods for Continual Learning); it spreads the penalty over more weights.

    The information is estimated from the gradients g_B of the batches as they are learned: B g_B² has the
    same expectation if the mean gradient is 0. That costs no extra pass, whereas the original passes over
    the data of a regime again when it has ended. As in online EWC (Schwarz et al. 2018, Progress &
    Compress), there is one Ω and one θ* for all regimes; earlier ones fade by ``decay``.

    It retains sums of squared gradients. `WeightImportanceLearner` states cost and state.
    """

    name: ClassVar[str] = "ewc"
    retains: ClassVar[Retention] = Retention.STATISTICS
    summary: ClassVar[str] = "a network whose weights are held in proportion to their Fisher information"
    paper: ClassVar[str] = "Kirkpatrick et al. 2017, Overcoming Catastrophic Forgetting in Neural Networks"
    Options: ClassVar[type[EWCOptions]] = EWCOptions
    _options: EWCOptions

    def _before_step(self, step: Step) -> None:
        count = step.samples
        share = min(1.0, count / self._options.horizon)
        for name, parameter in self._parameters.items():
            if parameter.grad is not None:
                self._gathered[name].mul_(1 - share).addcmul_(
                    parameter.grad, parameter.grad, value=share * count
                )

    def _importance_of(self, gathered: Weights, _: Weights) -> Weights:
        return {name: fisher**self._options.power for name, fisher in gathered.items()}
