"""What all peers share: the network and optimizer of `finetune`, and boundaries that they are told.

Shapes: B batch, C channels, H height, W width, K classes.
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Final, Self

import torch
from torch import Tensor, nn

from service.bench.rehearsal import Rehearsal
from service.learners.backbones import build
from service.learners.base import Learned, Learner, LearnerContext, State
from service.learners.gradient import GradientOptions
from service.learners.optimizers import create_optimizer, moments
from service.wire import Layout

__all__ = ["SAME", "Peer", "floats"]

SAME: Final = GradientOptions()
"""Backbone, optimizer and its learning rate, as every gradient learner of Lethe has them by default."""


class Peer(Learner):
    """A strategy of another library, which is measured, but never resumed.

    It hears of a boundary with the next batch, so that what it does then counts as learning.
    """

    keeps: ClassVar[str]
    """The most that it keeps of the samples, in words: how many, where it keeps samples."""

    def __init__(self, context: LearnerContext) -> None:
        torch.manual_seed(context.seed)  # both libraries draw from torch's own generator
        self._seed = context.seed
        self._model = build(SAME.backbone, context.layout, context.seed)
        self._parameters = dict(self._model.named_parameters())
        self._optimizer = create_optimizer(SAME.optimizer, self._parameters, SAME.lr, SAME.optimizer_options)
        self._told = False

    @classmethod
    def ready_for(cls, rehearsal: Rehearsal) -> Self:
        """Return one that can learn the stream of ``rehearsal``."""
        return cls(LearnerContext(Layout(), rehearsal.seed))

    def boundary(self) -> None:
        """Keep in mind that the next batch is of another segment."""
        self._told = True

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        """Let the strategy learn a batch, a boundary first if there was one; it does not tell its loss."""
        told, self._told = self._told, False
        return Learned(self._learn(x_BCHW, y_B, told), None)

    @abstractmethod
    def _learn(self, x_BCHW: Tensor, y_B: Tensor, told: bool) -> Tensor:
        """Learn a batch, and return the classes predicted before, int64 [B].

        ``told``: it is the first of another segment.
        """

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return the softmax of the network's scores."""
        self._model.eval()
        with torch.inference_mode():
            scores_BK = self._model(floats(x_BCHW))
        self._model.train()
        return nn.functional.softmax(scores_BK, 1)

    def state(self) -> State:
        """Return weights, moments, and all else that the strategy keeps: their size is what counts."""
        kept = {f"kept.{nth}": tensor for nth, tensor in enumerate(self._kept())}
        weights = {f"model.{name}": tensor for name, tensor in self._model.state_dict().items()}
        return State(weights | moments(self._optimizer, self._parameters) | kept, {})

    @abstractmethod
    def _kept(self) -> Iterable[Tensor]:
        """Yield what the strategy keeps besides the network and the optimizer's moments."""

    def load_state(self, state: State) -> None:
        """Refuse: a peer is measured in one go."""
        raise NotImplementedError("a peer is measured in one go")


def floats(x_BCHW: Tensor) -> Tensor:
    """Return new float32 images in −1 … 1, as the gradient learners see them."""
    return x_BCHW.to(torch.float32, memory_format=torch.channels_last).mul_(2 / 255).sub_(1)
