"""The base of EWC, SI and MAS: important weights are held near their anchors."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor

from lethe.learners.base import LearnerContext
from lethe.learners.gradient.averaged import AveragedLearner
from lethe.learners.gradient.base import GradientOptions, Step
from lethe.learners.gradient.lagged import LaggedSnapshots
from lethe.learners.state import State

__all__ = ["WeightImportanceLearner", "WeightImportanceOptions", "Weights"]

Weights = Mapping[str, Tensor]
"""A number per weight, by the name and in the shape of its parameter."""

_LEAST_MEAN: Final = 1e-12  # an importance that is zero everywhere stays so


class WeightImportanceOptions(GradientOptions):
    """How strongly weights are held near their anchors."""

    strength: float = Field(default=10.0, ge=0)
    """λ: strength of the penalty for a weight of mean importance."""
    decay: float = Field(default=0.9, ge=0, le=1)
    """Factor on the importance of earlier regimes when another is added; below 1 the sum is bounded."""
    lag: int = Field(default=2048, ge=0)
    """Samples within which a boundary is detected; the network is restored from a snapshot that is one to two
    times as old. 0 for boundaries that are known in advance."""


class WeightImportanceLearner(AveragedLearner):
    """Holds each weight θ near its anchor θ*, in proportion to its importance Ω.

    A method accumulates the importance of each weight from the stream alone. At a boundary Ω and θ* are
    updated from it and from the weights of ``lag`` to twice ``lag`` samples ago, since a boundary is
    detected late. The network is restored from then, too, and the optimizer is reset: the first steps on
    another regime do the most harm, and what was learned since is a small price, even for a false alarm. The
    accumulated importance is divided by its mean over all weights, so that ``strength`` λ is comparable
    between networks and losses.

    The penalty ½ λ Σ Ω (θ − θ*)² is not part of the loss: after each step on the cross entropy, an
    implicit step on the penalty moves θ to θ* + (θ − θ*) / (1 + lr λ Ω). That is stable for any λ, and
    Adam, which makes small and large gradients alike, cannot undo the differences in Ω.

    State: eight numbers per weight, namely weights, accumulated importance, Ω, θ*, and two snapshots of the
    first two, plus the optimizer's moments. Beyond the method's own work, a step costs a few operations per
    weight.
    """

    Options: ClassVar[type[WeightImportanceOptions]] = WeightImportanceOptions
    _options: WeightImportanceOptions

    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context)
        self._gathered = {name: torch.zeros_like(p) for name, p in self._parameters.items()}
        self._importance = {name: torch.zeros_like(p) for name, p in self._parameters.items()}
        self._anchor = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._lagged = LaggedSnapshots(self._live, self._options.lag)

    def _live(self) -> dict[str, Tensor]:
        live = {f"weight.{name}": tensor for name, tensor in self._model.state_dict().items()}
        return live | {f"gathered.{name}": tensor for name, tensor in self._gathered.items()}

    def boundary(self) -> None:
        """Add the importance of the regime that ended, and set the anchors to the weights at its end."""
        before = self._lagged.before()
        if before is not None:
            weight = {name: before[f"weight.{name}"] for name in self._parameters}
            gathered = {name: before[f"gathered.{name}"] for name in self._parameters}
            importance = self._importance_of(gathered, weight)
            mean = float(torch.cat([tensor.flatten() for tensor in importance.values()]).mean())
            for name, tensor in importance.items():
                self._importance[name].mul_(self._options.decay).add_(tensor / max(mean, _LEAST_MEAN))
                self._anchor[name].copy_(weight[name])
            self._rewind({name: before[f"weight.{name}"] for name in self._model.state_dict()})
        for tensor in self._gathered.values():
            tensor.zero_()
        self._lagged.restart(self._seen)

    @abstractmethod
    def _importance_of(self, gathered: Weights, weight: Weights, /) -> Weights:
        """Return the importance, at least 0, of each weight in a regime that ended with ``weight``."""

    def _after_step(self, _: Step) -> None:
        for name, parameter in self._parameters.items():
            anchor = self._anchor[name]
            pull = 1 + self._options.lr * self._options.strength * self._importance[name]
            parameter.detach().sub_(anchor).div_(pull).add_(anchor)
        self._lagged.saw(self._seen)

    def state(self) -> State:
        """Return also the accumulated and the consolidated importance, the anchors and the snapshots."""
        state = super().state()
        own = {f"{kind}.{name}": t.contiguous() for kind, ts in self._own().items() for name, t in ts.items()}
        return State(
            {**state.tensors, **own, **self._lagged.tensors()}, {**state.values, **self._lagged.values()}
        )

    def load_state(self, state: State) -> None:
        """Copy all of ``state`` into this learner."""
        super().load_state(state)
        for kind, tensors in self._own().items():
            for name, tensor in tensors.items():
                tensor.copy_(state.tensors[f"{kind}.{name}"])
        self._lagged.load(state)

    def _own(self) -> dict[str, dict[str, Tensor]]:
        return {"gathered": self._gathered, "importance": self._importance, "anchor": self._anchor}
