"""Experience replay: with each batch, some samples of the past are learned again.

Shapes: B batch, C channels, H height, W width, M rehearsed samples.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from service.learners.base import LearnerContext, Retention, State
from service.learners.gradient import GradientLearner, GradientOptions, Step
from service.learners.reservoir import Column, Reservoir

__all__ = ["Rehearsing", "RehearsingOptions", "Replay"]


class RehearsingOptions(GradientOptions):
    """What is kept, and how much of it is learned again."""

    capacity: int = Field(default=5000, ge=1)
    """Samples kept: a uniform sample of the whole stream."""
    rehearsed: int = Field(default=64, ge=1)
    """Samples of them that are learned again with each batch."""


class Rehearsing(GradientLearner):
    """Keeps samples in a `Reservoir`; a method says what it does with them."""

    Options: ClassVar[type[RehearsingOptions]] = RehearsingOptions
    _options: RehearsingOptions
    retains: ClassVar[Retention] = Retention.SAMPLES
    why_not_unlearn: ClassVar[str] = (
        "its weights come from gradients, of samples that it keeps, too; those go when a policy's time is up"
    )

    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context)
        columns = {"pixels": Column(context.layout.shape, torch.uint8), "label": Column((), torch.int64)}
        columns |= {"scores": Column((context.layout.classes,), torch.float32)} if self._keeps_scores else {}
        self._reservoir = Reservoir(self._options.capacity, columns)

    _keeps_scores: ClassVar[bool] = False
    """Whether each sample's scores, when it was learned, are kept with it."""

    def _cross_entropy(self, samples: Mapping[str, Tensor]) -> Tensor:
        """Return the mean cross entropy of samples that were kept."""
        return nn.functional.cross_entropy(self._scores(samples), samples["label"].to(self._device))

    def _scores(self, samples: Mapping[str, Tensor]) -> Tensor:
        scores_MK: Tensor = self._model(self._floats(samples["pixels"]))
        return scores_MK

    def _after_step(self, step: Step) -> None:
        samples = {"pixels": step.pixels_BCHW, "label": step.y_B, "scores": step.scores_BK.detach()}
        self._reservoir.offer(samples, self._dice("offer"))

    @property
    def kept(self) -> int:
        """Samples in the reservoir."""
        return len(self._reservoir)

    def expire(self, before: int) -> int:
        """Let go of what is kept of the first ``before`` samples learned: `service.learners.expiring`."""
        return self._reservoir.expire(before)

    def state(self) -> State:
        """Return also the samples kept."""
        state = super().state()
        return State({**state.tensors, **self._reservoir.tensors()}, state.values)

    def load_state(self, state: State) -> None:
        """Copy also the samples kept."""
        super().load_state(state)
        self._reservoir.load(state.tensors)


class Replay(Rehearsing):
    """Minimises the cross entropy of the batch and of as many samples that were kept.

    Keeps ``capacity`` raw samples. A step costs two of finetune's, one for each half.
    """

    name: ClassVar[str] = "replay"
    summary: ClassVar[str] = "a network that learns some of the samples it kept again with each batch"
    paper: ClassVar[str] = "Chaudhry et al. 2019, On Tiny Episodic Memories in Continual Learning"

    def _objective(self, step: Step) -> Tensor:
        if not self._reservoir:
            return step.loss
        return step.loss + self._cross_entropy(
            self._reservoir.draw(self._options.rehearsed, self._dice("draw"))
        )
