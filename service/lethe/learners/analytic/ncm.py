"""Nearest class mean, the simplest learner that does not depend on the order of the samples.

Shapes: B batch, C channels, H height, W width, D features, K classes.
"""

from functools import partial
from typing import ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor, nn

from lethe.learners.analytic.base import SumsLearner
from lethe.learners.analytic.sums import class_counts
from lethe.learners.base import Learned, LearnerContext
from lethe.learners.features.choice import FeatureOptions
from lethe.learners.modules import LinearClassifier
from lethe.learners.predictor import Predictor, in_chunks
from lethe.learners.state import State

__all__ = ["NCM", "NCMOptions"]

_UNSEEN: Final = -1e4  # score of a class without samples


class NCMOptions(FeatureOptions):
    """Features and probabilities of `NCM`."""

    waves: int = Field(default=1000, ge=0)
    """Number of random Fourier features beside the wavelets; capped for small images and short vectors."""
    temperature: float = Field(default=1.0, gt=0)
    """Probabilities are the softmax of the negative squared distances over this."""


class NCM(SumsLearner):
    """Predicts the class whose mean, in fixed features φ, is nearest.

    The state is Σ φ and the number of samples per class, in whole numbers (`SumsLearner`). Nothing has to be
    solved, so a batch affects the predictions of the next one.

    Cost per sample: D K multiply-adds, and the features. State: D K numbers of 64 bits.
    """

    name: ClassVar[str] = "ncm"
    summary: ClassVar[str] = "nearest class mean in fixed wavelet features"
    batch_size: ClassVar[int] = 256  # the means are the same, larger batches are faster
    paper: ClassVar[str] = "Mensink et al. 2013, Distance-Based Image Classification"
    Options: ClassVar[type[NCMOptions]] = NCMOptions
    reports_probabilities: ClassVar[bool] = True

    def __init__(self, context: LearnerContext) -> None:
        self._options = NCMOptions.of(context.options)
        super().__init__(context, self._options, second=False)
        self._pooled_DK = torch.zeros_like(self._sums.B_DK)  # of all ranks, where these are not in the sums

    def _learn(self, features_BD: Tensor, y_B: Tensor) -> Learned:
        """Predict, then add the batch to its classes' sums.

        ``loss`` is the mean negative log-likelihood of the labels. Raises DivergedLoss.
        """
        scores_BK = self._scores(self._means(), features_BD)
        loss = nn.functional.cross_entropy(scores_BK, y_B.to(self._device)).item()
        self.require_finite(len(y_B), loss=loss)
        predicted_B = scores_BK.argmax(1).cpu()
        self._sums.add(features_BD, y_B)
        return Learned(predicted_B, loss, probabilities=lambda: scores_BK.softmax(1).cpu())

    def predict_proba(self, x_BCHW: Tensor) -> Tensor:
        """Return the softmax of the negative squared distances over the temperature."""
        return self._probabilities(self._means(), x_BCHW)

    def predict_features(self, features_BD: Tensor) -> Tensor:
        """Return what `predict_proba` returns for images with these features: `FixedFeatures`."""
        return in_chunks(partial(self._from_features, self._means()), features_BD)

    def module(self) -> nn.Module:
        """Return the features and the present means."""
        means_DK, halves_K = self._means()
        return LinearClassifier(self._features.module(), means_DK, -halves_K, 2 / self._options.temperature)

    def predictor(self) -> Predictor:
        """Return a predictor with the current means."""
        return Predictor(partial(self._probabilities, self._means()), self._others)

    def state(self) -> State:
        """Return the sums, by class."""
        return State({**self._sums.tensors(), **self._features.tensors()}, {})

    def load_state(self, state: State) -> None:
        """Copy the sums of ``state``."""
        self._features.load(state.tensors)
        self._sums.load(state.tensors)

    def share(self, *, refresh: bool) -> None:
        """Give the sums of all ranks to each, to predict from."""
        del refresh  # there is nothing to solve
        self._ranks.broadcast(self._sums.B_DK if self._ranks.leads else self._pooled_DK)

    def share_solution(self) -> None:
        """Give the sums of all ranks to each, to predict from: `Pools`."""
        self.share(refresh=False)

    def _refresh_passed(self) -> bool:
        return True  # sums by class are small

    def _sums_changed(self, by: int) -> None:
        """Do nothing: the means are computed for each batch."""

    def _means(self) -> tuple[Tensor, Tensor]:
        """Return the means in units of the features, float32 of shape [D, K], and half their squares.

        Those of unseen classes are huge.
        """
        B_DK, scales_D = self._sums.B_DK + self._pooled_DK, self._features.scales
        counts_K = class_counts(B_DK)
        means_DK = B_DK / counts_K.clamp_min(1) * scales_D[:, None]
        halves_K = torch.where(counts_K > 0, means_DK.square().sum(0) / 2, -_UNSEEN)
        return (means_DK * scales_D[:, None]).to(torch.float32), halves_K.to(torch.float32)

    def _scores(self, means: tuple[Tensor, Tensor], features_BD: Tensor) -> Tensor:
        """Return the negative squared distances over the temperature, up to each sample's own square."""
        means_DK, halves_K = means
        return (features_BD.to(torch.float32) @ means_DK - halves_K).mul_(2 / self._options.temperature)

    def _probabilities(self, means: tuple[Tensor, Tensor], x_BCHW: Tensor) -> Tensor:
        return in_chunks(lambda x: self._from_features(means, self._features(x)), x_BCHW)

    def _from_features(self, means: tuple[Tensor, Tensor], features_BD: Tensor) -> Tensor:
        return self._scores(means, features_BD).softmax(1).cpu()
