"""Dark experience replay: samples are stored with the scores they had, and both are rehearsed.

Shapes: K classes, M rehearsed samples.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from lethe.learners.gradient.base import Step
from lethe.learners.gradient.replay import RehearsalLearner, RehearsalOptions

__all__ = ["DarkReplay", "DarkReplayOptions"]


class DarkReplayOptions(RehearsalOptions):
    """Weights of the stored scores and of the stored labels."""

    scores_weight: float = Field(default=0.5, ge=0)
    """α: weight of the squared error to the scores that a sample had when it was learned."""
    labels_weight: float = Field(default=0.5, ge=0)
    """β: weight of the cross entropy of other stored samples."""


class DarkReplay(RehearsalLearner):
    """Minimises cross entropy + α · squared error to stored scores + β · cross entropy of stored labels.

    Stores ``capacity`` raw samples with their scores. Each of the two terms draws its own samples, so a step
    costs three of finetune's.
    """

    name: ClassVar[str] = "der++"
    summary: ClassVar[str] = (
        "samples are replayed together with the scores that they had when they were learned"
    )
    paper: ClassVar[str] = "Buzzega et al. 2020, Dark Experience for General Continual Learning"
    Options: ClassVar[type[DarkReplayOptions]] = DarkReplayOptions
    _options: DarkReplayOptions
    _keeps_scores: ClassVar[bool] = True

    def _objective(self, step: Step) -> Tensor:
        if not self._reservoir:
            return step.loss
        options, dice = self._options, self._derived_generator("draw")
        for_scores, for_labels = (self._reservoir.draw(options.rehearsed, dice) for _ in range(2))
        kept_MK = for_scores["scores"].to(self._device)
        error = nn.functional.mse_loss(self._scores(for_scores), kept_MK)
        return (
            step.loss
            + options.scores_weight * error
            + options.labels_weight * self._cross_entropy(for_labels)
        )
