"""Plain gradient descent on the stream: the learner that forgets, which others are measured against.

Shapes: B batch, C channels, H height, W width, K classes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from service.errors import DivergedLoss
from service.learners.backbones import small_cnn
from service.learners.base import Learned, Learner, LearnerContext, Retention, State

__all__ = ["Finetune", "FinetuneSettings"]

_PREDICT_ROWS = 512  # bounds the memory of a prediction, whatever the number of images
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what Adam keeps for a parameter


@dataclass(frozen=True, slots=True)
class FinetuneSettings:
    """How fast `Finetune` learns; the names are those of Adam (Kingma & Ba 2015)."""

    learning_rate: float = 1e-3
    """Length of a step, above 0."""
    beta1: float = 0.9
    """Decay of the mean of the gradients, from 0 to below 1."""
    beta2: float = 0.999
    """Decay of the mean of their squares, from 0 to below 1."""

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate}: it must be above 0")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be from 0 to below 1")


class Finetune(Learner):
    """A small CNN, Adam, cross entropy, one step a batch, and nothing against forgetting."""

    name: ClassVar[str] = "finetune"
    retains: ClassVar[Retention] = Retention.NOTHING
    summary: ClassVar[str] = "a small CNN trained by plain gradient descent: it forgets"
    paper: ClassVar[str] = "McCloskey & Cohen 1989, Catastrophic Interference in Connectionist Networks"

    def __init__(self, context: LearnerContext, settings: FinetuneSettings | None = None) -> None:
        settings = settings or FinetuneSettings()
        self._device = context.device
        self._model = small_cnn(context.layout, context.seed).to(context.device)
        self._parameters = dict(self._model.named_parameters())
        self._adam = torch.optim.Adam(
            self._parameters.values(),
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            fused=True,
        )

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        """Take one step of Adam; the forward pass of the step is also the prediction.

        ``loss`` is the mean cross entropy in nats. Raises DivergedLoss.
        """
        with torch.backends.cudnn.flags(deterministic=True):  # the fast default may sum in any order
            scores_BK = self._model(self._floats(x_BCHW))
            loss = nn.functional.cross_entropy(scores_BK, y_B.to(self._device))
            value = loss.item()
            if not math.isfinite(value):
                raise DivergedLoss(f"the cross entropy of a batch of {len(y_B)} is {value}")
            self._adam.zero_grad()
            torch.autograd.backward(loss)
        self._adam.step()
        return Learned(scores_BK.detach().argmax(1).cpu(), value)

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return the softmax of the scores."""
        with torch.inference_mode():
            parts = [
                self._model(self._floats(x)).softmax(1).cpu() for x in torch.split(x_BCHW, _PREDICT_ROWS)
            ]
            return torch.cat(parts)

    def state(self) -> State:
        """Return weights and Adam's moments: ``model.*``, and ``adam.*`` once a batch was learned."""
        tensors = {}
        for name, parameter in self._parameters.items():
            tensors[f"model.{name}"] = parameter.detach().contiguous()  # safetensors takes no other
            for moment, tensor in self._adam.state.get(parameter, {}).items():
                tensors[f"adam.{name}.{moment}"] = tensor.contiguous()
        return State(tensors, {})

    def load_state(self, state: State) -> None:
        """Copy the weights and moments of ``state`` into this learner."""
        self._adam.state.clear()
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(state.tensors[f"model.{name}"])
                if f"adam.{name}.step" in state.tensors:
                    self._adam.state[parameter] = self._moments(name, parameter, state.tensors)

    def _moments(self, name: str, parameter: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return Adam's state of one parameter, in the memory format of the parameter itself."""
        saved = {moment: tensors[f"adam.{name}.{moment}"] for moment in _MOMENTS}
        return {
            moment: torch.empty_like(parameter if tensor.dim() else tensor, device=self._device).copy_(tensor)
            for moment, tensor in saved.items()
        }

    def _floats(self, x_BCHW: Tensor) -> Tensor:
        """Return new float32 images in −1 … 1, on the device."""
        x = x_BCHW.to(self._device)
        return x.to(torch.float32, memory_format=torch.channels_last).mul_(2 / 255).sub_(1)
