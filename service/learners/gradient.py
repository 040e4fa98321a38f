"""What all gradient-descent learners share: a network, an optimizer, and one step a batch.

Shapes: B batch, C channels, H height, W width, K classes.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar, cast

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from service.errors import DivergedLoss
from service.learners.backbones import build
from service.learners.base import Learned, Learner, LearnerContext, State
from service.learners.optimizers import create_optimizer, load_moments, moments, optimizer_kind
from service.learners.options import Options
from service.learners.predictor import Predictor, in_parts

__all__ = ["GradientLearner", "GradientOptions", "Step"]


class GradientOptions(Options):
    """What is trained, and how."""

    backbone: str = "small-cnn"
    """The network: small-cnn, mlp, or module:factory of yours, which gets the layout and returns it."""
    optimizer: str = "Adam"
    """An optimizer of torch.optim by its name."""
    lr: float = Field(default=1e-3, gt=0)
    """Its learning rate: the length of a step."""
    optimizer_options: dict[str, bool | int | float | str | list[float] | None] = Field(default_factory=dict)
    """Its other arguments, as JSON: {"weight_decay": 0.01}."""

    @field_validator("optimizer")
    @classmethod
    def _there_is_one(cls, value: str) -> str:
        optimizer_kind(value)
        return value


@dataclass(frozen=True, slots=True)
class Step:
    """What is known of a batch after the forward pass.

    ``pixels_BCHW`` are the caller's uint8 images, which are not to be kept; the rest is on the
    learner's device: ``x_BCHW`` float32 images in −1 … 1, ``loss`` the mean cross entropy of
    ``scores_BK``.
    """

    pixels_BCHW: Tensor
    x_BCHW: Tensor
    y_B: Tensor
    scores_BK: Tensor
    loss: Tensor


class GradientLearner(Learner):
    """Cross entropy and one step of the optimizer a batch; a method against forgetting adds to it.

    Parts that a method replaces, in the order of `learn`: `_objective`, what is minimised;
    `_before_step`, when the gradients are there; `_after_step`, when the weights have moved. Only
    the last two may change what the learner keeps: a batch may be refused before.
    """

    Options: ClassVar[type[GradientOptions]] = GradientOptions
    why_not_unlearn: ClassVar[str] = "its weights come from gradients, which no sample can be taken out of"

    def __init__(self, context: LearnerContext) -> None:
        options = self._options = self.Options.of(context.options)
        self._device, self._seed = context.device, context.seed
        self._seen = 0
        self._model = build(options.backbone, context.layout, context.seed).to(context.device)
        self._parameters = {name: p for name, p in self._model.named_parameters() if p.requires_grad}
        self._optimizer = self._new_optimizer()

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        """Take one step; its forward pass is also the prediction.

        ``loss`` is the mean cross entropy in nats. Raises DivergedLoss.
        """
        buffers = [(buffer, buffer.clone()) for buffer in self._model.buffers()]
        with torch.backends.cudnn.flags(deterministic=True):  # the fast default may sum in any order
            step = self._forward(x_BCHW, y_B)
            objective = self._objective(step)
            loss, minimised = step.loss.item(), objective.item()
            if not (math.isfinite(loss) and math.isfinite(minimised)):
                for buffer, before in buffers:  # a normalisation has seen the batch already
                    buffer.copy_(before)
                raise DivergedLoss(f"a batch of {len(y_B)}: cross entropy {loss}, objective {minimised}")
            self._optimizer.zero_grad()
            torch.autograd.backward(objective)
            self._before_step(step)
            self._optimizer.step()
            self._seen += len(y_B)
            self._after_step(step)
        return Learned(step.scores_BK.detach().argmax(1).cpu(), loss)

    def _forward(self, pixels_BCHW: Tensor, y_B: Tensor) -> Step:
        x_BCHW, y_B = self._floats(pixels_BCHW), y_B.to(self._device)
        scores_BK = self._model(x_BCHW)
        return Step(pixels_BCHW, x_BCHW, y_B, scores_BK, nn.functional.cross_entropy(scores_BK, y_B))

    def _objective(self, step: Step) -> Tensor:
        """Return the scalar that is minimised."""
        return step.loss

    def _before_step(self, step: Step, /) -> None:
        """Use or change the gradients."""

    def _after_step(self, step: Step, /) -> None:
        """Use or change the weights."""

    def _new_optimizer(self) -> torch.optim.Optimizer:
        options = self._options
        return create_optimizer(options.optimizer, self._parameters, options.lr, options.optimizer_options)

    def _rewind(self, before: Mapping[str, Tensor]) -> None:
        """Take back the network, its buffers, too, to what it was before a boundary that is noticed now.

        The first steps of another regime do the most harm, above all those of an optimizer whose
        moments are still the old one's small gradients: it begins anew, too.
        """
        with torch.no_grad():
            for name, tensor in self._model.state_dict().items():
                tensor.copy_(before[name])
        self._optimizer = self._new_optimizer()

    def _dice(self, purpose: str) -> torch.Generator:
        """Return random numbers, on the CPU, for one purpose within a batch.

        They follow from the seed and what was seen so far, so a batch that is refused has drawn none.
        """
        key = f"{self._seed} {self._seen} {purpose}".encode()
        return torch.Generator().manual_seed(int.from_bytes(blake2b(key, digest_size=8).digest()))

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return the softmax of the scores."""
        learning = [module for module in self._model.modules() if module.training]
        self._model.eval()
        p_BK = self._probabilities(x_BCHW)
        for module in learning:  # and no other: a backbone may hold a part of its own still
            module.training = True
        return p_BK

    def predictor(self) -> Predictor:
        """Return what predicts from a copy of the network."""
        still = copy.copy(self)
        still._model = copy.deepcopy(self._model).eval()
        return Predictor(still._probabilities)

    def state(self) -> State:
        """Return weights and moments: ``model.*``, and ``optimizer.*`` once a batch was learned."""
        weights = {f"model.{name}": tensor.contiguous() for name, tensor in self._model.state_dict().items()}
        return State(weights | moments(self._optimizer, self._parameters), {"seen": self._seen})

    def load_state(self, state: State) -> None:
        """Copy the weights and moments of ``state`` into this learner."""
        self._seen = int(cast("int", state.values["seen"]))
        with torch.no_grad():
            for name, tensor in self._model.state_dict().items():
                tensor.copy_(state.tensors[f"model.{name}"])
        load_moments(self._optimizer, self._parameters, state.tensors)

    @torch.inference_mode()
    def _probabilities(self, x_BCHW: Tensor) -> Tensor:
        """Return the softmax of the scores of a network that is in eval mode."""
        return in_parts(lambda x: self._model(self._floats(x)).softmax(1).cpu(), x_BCHW)

    def _floats(self, x_BCHW: Tensor) -> Tensor:
        """Return new float32 images in −1 … 1, on the device."""
        x = x_BCHW.to(self._device)
        return x.to(torch.float32, memory_format=torch.channels_last).mul_(2 / 255).sub_(1)
