"""Nearest class mean: the simplest learner whose memory does not depend on the order of the samples.

Shapes: B batch, C channels, H height, W width, D features, K classes.
"""

import math
from functools import partial
from typing import ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor, nn

from service.errors import DivergedLoss
from service.learners.base import Learned, Learner, LearnerContext, Retention, State
from service.learners.features import WaveletFeatures
from service.learners.options import Options
from service.learners.predictor import Predictor, in_parts
from service.learners.products import fine_product
from service.learners.unlearning import check_counts, features_as_learned

__all__ = ["NCM", "NCMOptions"]

_UNSEEN: Final = -1e4  # the score of a class of which there is no sample


class NCMOptions(Options):
    """How `NCM` sees."""

    waves: int = Field(default=1000, ge=0)
    """Random Fourier features beside the wavelets."""
    temperature: float = Field(default=1.0, gt=0)
    """Probabilities are the softmax of the negative squared distances over this."""


class NCM(Learner):
    """A sample is of the class whose mean, in fixed features φ, is nearest.

    It keeps Σ φ and the number of samples of each class: sums, in float64, so that their order is
    nothing to it. Nothing is ever solved; what was learned counts from the next batch on.

    Cost a sample: D K multiply-adds, and those of the features. State: D K float64 numbers.
    """

    name: ClassVar[str] = "ncm"
    retains: ClassVar[Retention] = Retention.STATISTICS
    summary: ClassVar[str] = "nearest class mean in fixed wavelet features"
    batch_size: ClassVar[int] = 256  # the means are the same; larger ones are faster
    paper: ClassVar[str] = "Mensink et al. 2013, Distance-Based Image Classification"
    Options: ClassVar[type[NCMOptions]] = NCMOptions

    def __init__(self, context: LearnerContext) -> None:
        self._options = NCMOptions.of(context.options)
        self._features = WaveletFeatures(context.layout, context.seed, self._options.waves, context.device)
        shape = (context.layout.classes, self._features.count)
        self._sums_KD = torch.zeros(shape, device=context.device, dtype=torch.float64)
        self._counts_K = torch.zeros(shape[0], device=context.device, dtype=torch.float64)

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        """Predict, then add the batch to its classes' sums.

        ``loss`` is the mean negative log-likelihood of the labels. Raises DivergedLoss.
        """
        features_BD = self._features(x_BCHW)
        onehot_BK = nn.functional.one_hot(y_B, len(self._counts_K)).to(features_BD)
        scores_BK = self._scores(self._means(), features_BD)
        loss = -(scores_BK.log_softmax(1) * onehot_BK).sum(1).mean().item()
        if not math.isfinite(loss):
            raise DivergedLoss(f"the loss of a batch of {len(y_B)} is {loss}")
        predicted_B = scores_BK.argmax(1).cpu()
        self._sums_KD.addmm_(onehot_BK.T.to(torch.float64), features_BD.to(torch.float64))
        self._counts_K.add_(onehot_BK.sum(0))
        return Learned(predicted_B, loss)

    def unlearn(self, x_BCHW: Tensor, y_B: Tensor, batch: int) -> None:
        """Take samples off their classes' sums: `service.learners.unlearning`.

        The sums are then those of never having seen them, up to the rounding of float64. Raises
        NeverLearned when there are fewer samples of a class than shall be forgotten; there is nothing
        else to tell a stranger by.
        """
        features_BD = features_as_learned(self._features, x_BCHW, batch)
        onehot_BK = nn.functional.one_hot(y_B, len(self._counts_K)).to(torch.float64)
        check_counts(onehot_BK.sum(0), self._counts_K)
        self._sums_KD.addmm_(onehot_BK.T, features_BD.to(torch.float64), alpha=-1)
        self._counts_K.sub_(onehot_BK.sum(0))

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return the softmax of the negative squared distances over the temperature."""
        return self._probabilities(self._means(), x_BCHW)

    def predictor(self) -> Predictor:
        """Return what predicts from the means of now."""
        return Predictor(partial(self._probabilities, self._means()))

    def state(self) -> State:
        """Return the sums and the number of samples of each class."""
        return State({"sums": self._sums_KD, "class_counts": self._counts_K}, {})

    def load_state(self, state: State) -> None:
        """Copy both from ``state``."""
        self._sums_KD.copy_(state.tensors["sums"])
        self._counts_K.copy_(state.tensors["class_counts"])

    def _means(self) -> tuple[Tensor, Tensor]:
        """Return the means, float32 of shape [K, D], and half their squares, those of unseen classes huge."""
        means_KD = self._sums_KD / self._counts_K.clamp_min(1)[:, None]
        halves_K = torch.where(self._counts_K > 0, means_KD.square().sum(1) / 2, -_UNSEEN)
        return means_KD.to(torch.float32), halves_K.to(torch.float32)

    def _scores(self, means: tuple[Tensor, Tensor], features_BD: Tensor) -> Tensor:
        """Return the negative squared distances over the temperature, up to each sample's own square."""
        means_KD, halves_K = means
        return (fine_product(features_BD, means_KD.T) - halves_K).mul_(2 / self._options.temperature)

    def _probabilities(self, means: tuple[Tensor, Tensor], x_BCHW: Tensor) -> Tensor:
        scores_BK = in_parts(lambda x: self._scores(means, self._features(x)), x_BCHW)
        return scores_BK.softmax(1).cpu()
