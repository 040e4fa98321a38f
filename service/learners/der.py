"""Dark experience replay: samples are kept with the scores they had, and both are rehearsed.

Shapes: K classes, M rehearsed samples.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from service.learners.gradient import Step
from service.learners.replay import Rehearsing, RehearsingOptions

__all__ = ["DarkReplay", "DarkReplayOptions"]


class DarkReplayOptions(RehearsingOptions):
    """How much the scores and the labels of what was kept count."""

    scores_weight: float = Field(default=0.5, ge=0)
    """α, of the squared error to the scores that a sample had when it was learned."""
    labels_weight: float = Field(default=0.5, ge=0)
    """β, of the cross entropy of other samples that were kept."""


class DarkReplay(Rehearsing):
    """Minimises cross entropy + α · squared error to the scores kept + β · cross entropy of the labels kept.

    Keeps ``capacity`` raw samples and their scores. The two terms draw samples of their own, so a
    step costs three of finetune's.
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
        options, dice = self._options, self._dice("draw")
        for_scores, for_labels = (self._reservoir.draw(options.rehearsed, dice) for _ in range(2))
        kept_MK = for_scores["scores"].to(self._device)
        error = nn.functional.mse_loss(self._scores(for_scores), kept_MK)
        return (
            step.loss
            + options.scores_weight * error
            + options.labels_weight * self._cross_entropy(for_labels)
        )
