"""Experience replay: with each batch, some stored samples are learned again.

Shapes: B batch, C channels, H height, W width, M rehearsed samples.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from lethe.learners.base import LearnerContext, Retention
from lethe.learners.capabilities import Capability, Expires
from lethe.learners.gradient.base import GradientLearner, GradientOptions, Step
from lethe.learners.gradient.reservoir import Column, Reservoir
from lethe.learners.state import State

__all__ = ["RehearsalLearner", "RehearsalOptions", "Replay"]


class RehearsalOptions(GradientOptions):
    """How many samples are stored, and how many are rehearsed."""

    capacity: int = Field(default=5000, ge=1)
    """Samples stored: a uniform sample of the whole stream."""
    rehearsed: int = Field(default=64, ge=1)
    """Stored samples that are learned again with each batch."""


class RehearsalLearner(GradientLearner, Expires):
    """Stores samples in a `Reservoir`; a method defines how it uses them."""

    Options: ClassVar[type[RehearsalOptions]] = RehearsalOptions
    _options: RehearsalOptions
    retains: ClassVar[Retention] = Retention.SAMPLES
    lacks: ClassVar[Mapping[Capability, str]] = {
        Capability.UNLEARNS: (
            "its weights are trained by gradient descent, on stored samples, too; a policy's time to live "
            "deletes those samples and leaves the weights"
        ),
        Capability.POOLS: (
            "each rank would store samples of its own part of the stream, and a checkpoint would lack those "
            "of all but one"
        ),
    }

    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context)
        values = torch.uint8 if context.layout.features is None else torch.float32
        columns = {"pixels": Column(context.layout.shape, values), "label": Column((), torch.int64)}
        columns |= {"scores": Column((context.layout.classes,), torch.float32)} if self._keeps_scores else {}
        self._reservoir = Reservoir(self._options.capacity, columns)

    _keeps_scores: ClassVar[bool] = False
    """Whether the scores that each sample had when it was learned are stored with it."""

    def _cross_entropy(self, samples: Mapping[str, Tensor]) -> Tensor:
        """Return the mean cross entropy of stored samples."""
        return nn.functional.cross_entropy(self._scores(samples), samples["label"].to(self._device))

    def _scores(self, samples: Mapping[str, Tensor]) -> Tensor:
        return self._training_scores(self._floats(samples["pixels"]))

    def _after_step(self, step: Step) -> None:
        samples = {"pixels": step.pixels_BCHW, "label": step.y_B, "scores": step.scores_BK.detach()}
        self._reservoir.offer(samples, self._derived_generator("offer"))

    @property
    def kept(self) -> int:
        """Number of samples in the reservoir."""
        return len(self._reservoir)

    def expire(self, before: int) -> int:
        """Delete what is stored of the first ``before`` samples learned: `Expires`."""
        return self._reservoir.expire(before)

    def state(self) -> State:
        """Return also the stored samples."""
        state = super().state()
        return State({**state.tensors, **self._reservoir.tensors()}, state.values)

    def load_state(self, state: State) -> None:
        """Copy also the stored samples."""
        super().load_state(state)
        self._reservoir.load(state.tensors)


class Replay(RehearsalLearner):
    """Minimises the cross entropy of the batch plus that of ``rehearsed`` stored samples.

    Stores ``capacity`` raw samples. A step costs two of finetune's.
    """

    name: ClassVar[str] = "replay"
    summary: ClassVar[str] = "a network that rehearses some stored samples with each batch"
    paper: ClassVar[str] = "Chaudhry et al. 2019, On Tiny Episodic Memories in Continual Learning"

    def _objective(self, step: Step) -> Tensor:
        if not self._reservoir:
            return step.loss
        return step.loss + self._cross_entropy(
            self._reservoir.draw(self._options.rehearsed, self._derived_generator("draw"))
        )
