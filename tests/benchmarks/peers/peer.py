"""Base of the peers: strategies of other libraries with the network and optimizer of `finetune`.

Shapes: B batch, C channels, H height, W width, K classes.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Final, Self

import torch
from torch import Tensor, nn

from lethe.experiments.bench.offline_run import OfflineRun
from lethe.learners.base import Learned, Learner, LearnerContext
from lethe.learners.gradient.backbones import build
from lethe.learners.gradient.base import GradientOptions
from lethe.learners.gradient.optimizers import create_optimizer, moments
from lethe.learners.state import State
from lethe.wire import Layout
from tests.benchmarks.peers.recorder import Segment, record

__all__ = ["SAME", "Peer", "floats"]

SAME: Final = GradientOptions()
"""Lethe's default backbone, optimizer and learning rate."""


class Peer(Learner):
    """A strategy of another library; it can be measured but not resumed.

    A boundary is passed on with the next batch, so that its cost counts as learning.
    """

    keeps: ClassVar[str]
    """What it retains of samples, in words, with the number of samples if it stores any."""

    def __init__(self, context: LearnerContext) -> None:
        torch.manual_seed(context.seed)  # both libraries draw from torch's own generator
        self._seed = context.seed
        self._model = build(SAME.backbone, context.layout, context.seed)
        self._parameters = dict(self._model.named_parameters())
        self._optimizer = create_optimizer(SAME.optimizer, self._parameters, SAME.lr, SAME.optimizer_options)
        self._at_boundary = False

    @classmethod
    def ready_for(cls, offline: OfflineRun) -> Self:
        """Create a peer for the stream of ``offline``."""
        return cls.for_segments(LearnerContext(Layout(), offline.seed), lambda: record(offline))

    @classmethod
    def for_segments(cls, context: LearnerContext, _segments: Callable[[], Sequence[Segment]]) -> Self:
        """Create a peer that will learn these segments; only some need them beforehand."""
        return cls(context)

    def boundary(self) -> None:
        """Mark the next batch as the first of a segment."""
        self._at_boundary = True

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        """Let the strategy learn a batch, and a boundary before it if there is one; the loss is unknown."""
        at_boundary, self._at_boundary = self._at_boundary, False
        return Learned(self._learn(x_BCHW, y_B, at_boundary), None)

    @abstractmethod
    def _learn(self, x_BCHW: Tensor, y_B: Tensor, at_boundary: bool) -> Tensor:
        """Learn a batch and return the classes predicted before, int64 [B].

        ``at_boundary`` is true for the first batch of a segment.
        """

    def predict_proba(self, x_BCHW: Tensor) -> Tensor:
        """Return the softmax of the network's scores."""
        self._model.eval()
        with torch.inference_mode():
            scores_BK = self._model(floats(x_BCHW))
        self._model.train()
        return nn.functional.softmax(scores_BK, 1)

    def state(self) -> State:
        """Return weights, moments and the strategy's other tensors, for their size."""
        kept = {f"kept.{nth}": tensor for nth, tensor in enumerate(self._kept())}
        weights = {f"model.{name}": tensor for name, tensor in self._model.state_dict().items()}
        return State(weights | moments(self._optimizer, self._parameters) | kept, {})

    @abstractmethod
    def _kept(self) -> Iterable[Tensor]:
        """Yield the strategy's tensors besides the network and the optimizer's moments."""

    def load_state(self, state: State) -> None:
        """Raise NotImplementedError: a peer cannot be resumed."""
        raise NotImplementedError("a peer cannot be resumed")


def floats(x_BCHW: Tensor) -> Tensor:
    """Return new float32 images from −1 to 1, as gradient learners use them."""
    return x_BCHW.to(torch.float32, memory_format=torch.channels_last).mul_(2 / 255).sub_(1)
