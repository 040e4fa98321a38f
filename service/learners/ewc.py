"""Elastic weight consolidation with a running Fisher information: no second pass, no sample kept."""

from typing import ClassVar

from pydantic import Field

from service.learners.anchored import Anchored, AnchoredOptions, Weights
from service.learners.base import Retention
from service.learners.gradient import Step

__all__ = ["EWC", "EWCOptions"]


class EWCOptions(AnchoredOptions):
    """How firmly weights are held, and how the Fisher information is gathered."""

    horizon: int = Field(default=20_000, ge=1)
    """Samples over which the Fisher information is averaged; older ones count less and less."""
    power: float = Field(default=0.5, gt=0, le=1)
    """Of the Fisher information in the importance: 1 is EWC's own, ½ forgets less for the same learning."""


class EWC(Anchored):
    """Importance is a power of the diagonal of the empirical Fisher information, E[g²] over samples.

    The original's power is 1. Its root is what SI and MAS come to, too (Benzing 2022, Unifying
    Importance Based Regularisation Methods for Continual Learning): it holds fewer weights firmly and
    fewer not at all.

    The information is gathered from the gradients g_B of the batches as they are learned: B g_B² has the same
    expectation, where the mean gradient is 0. So it costs no pass of its own, where the original
    goes through the data of a regime again when it has ended. As in online EWC (Schwarz et
    al. 2018, Progress & Compress), there is one Ω and one θ* for all regimes; earlier ones fade by
    ``decay``.

    It keeps statistics: sums of squared gradients. See `Anchored` for what it costs.
    """

    name: ClassVar[str] = "ewc"
    retains: ClassVar[Retention] = Retention.STATISTICS
    summary: ClassVar[str] = "a network whose weights are held in proportion to their Fisher information"
    paper: ClassVar[str] = "Kirkpatrick et al. 2017, Overcoming Catastrophic Forgetting in Neural Networks"
    Options: ClassVar[type[EWCOptions]] = EWCOptions
    _options: EWCOptions

    def _before_step(self, step: Step) -> None:
        count = len(step.y_B)
        share = min(1.0, count / self._options.horizon)
        for name, parameter in self._parameters.items():
            if parameter.grad is not None:
                self._gathered[name].mul_(1 - share).addcmul_(
                    parameter.grad, parameter.grad, value=share * count
                )

    def _importance_of(self, gathered: Weights, _: Weights) -> Weights:
        return {name: fisher**self._options.power for name, fisher in gathered.items()}
