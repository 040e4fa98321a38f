"""Recursive ridge regression on fixed features: the order of the samples cannot make it forget.

Shapes: B batch, C channels, H height, W width, D features, K classes.
"""

import math
from functools import partial
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from service.errors import DivergedLoss
from service.learners.base import Learned, Learner, LearnerContext, Retention, State
from service.learners.features import WaveletFeatures
from service.learners.gram import Gram
from service.learners.options import Options
from service.learners.predictor import Predictor, in_parts
from service.learners.products import fine_product
from service.learners.refresh import until_refresh
from service.learners.unlearning import check_counts, check_leverage, features_as_learned

__all__ = ["Ridge", "RidgeOptions"]


class RidgeOptions(Options):
    """How `Ridge` sees and solves."""

    waves: int = Field(default=4600, ge=0)
    """Random Fourier features beside the wavelets: most of D, fewer for small images."""
    penalty: float = Field(default=0.3, gt=0)
    """λ of (A + λI)⁻¹B: larger is smoother."""
    first_refresh: int = Field(default=64, ge=1)
    """Samples, at the start and after each boundary, until learning predicts from what it learned."""
    refresh_every: int = Field(default=16384, ge=1)
    """Samples between two solves for learning's own predictions; early on, whenever there are four
    times as many."""
    temperature: float = Field(default=0.1, gt=0)
    """Probabilities are the softmax of scores over this: 0.1 was likeliest on held-out MNIST
    and Fashion-MNIST, with a mean confidence of 0.964 for an accuracy of 0.954."""


class Ridge(Learner):
    """Least squares with a penalty, from one-hot labels and fixed features φ, exact at any moment.

    It keeps A = Σ φφᵀ and B = Σ φyᵀ. Both are sums, so they do not depend on the order of the
    samples (up to rounding), nor does W = (A + λI)⁻¹B, which gives the scores φᵀW. `predict`
    solves for W when it is asked after new samples. `learn` predicts from the W of the last solve
    that was due, by the number of samples since the last boundary alone, so that being asked does
    not change what it reports.

    Sums are not anonymous by themselves: A and B before and after a batch differ by its samples'
    features, and with fewer samples than features W answers for each of them (`lethe attack` measures
    how well that shows). `dp_ridge` puts noise on both. What a sum allows, too, is taking a sample
    off it again: `unlearn`.

    Cost a sample: ½ D² multiply-adds, and those of the features; a Cholesky factorisation of A a
    solve. State: D² + 2 D K float32 numbers.
    """

    name: ClassVar[str] = "ridge"
    retains: ClassVar[Retention] = Retention.STATISTICS
    summary: ClassVar[str] = "ridge regression on fixed wavelet features: order cannot make it forget"
    batch_size: ClassVar[int] = 512  # fewer passes over A; the sums are the same
    paper: ClassVar[str] = "Zhuang et al. 2022, ACIL: Analytic Class-Incremental Learning"
    Options: ClassVar[type[RidgeOptions]] = RidgeOptions

    def __init__(self, context: LearnerContext) -> None:
        self._options = RidgeOptions.of(context.options)
        self._features = WaveletFeatures(context.layout, context.seed, self._options.waves, context.device)
        self._classes = context.layout.classes
        self._gram = Gram(self._features.count, context.device)
        self._B_DK = torch.zeros(self._features.count, self._classes, device=context.device)
        self._W_DK = torch.zeros_like(self._B_DK)
        self._seen = 0
        self._since = 0  # samples seen before the last boundary
        self._predicts = False  # `learn` has a solution to predict from
        self._due = self._options.first_refresh
        self._solved: tuple[int, Tensor] = (0, self._W_DK)  # samples, and the exact W after them

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        """Predict from the last due W, then add the batch to both sums.

        ``loss`` is the mean over samples and classes of the squared error of the scores, None
        before the first solve. Raises DivergedLoss.
        """
        features_BD = self._features(x_BCHW)
        onehot_BK = nn.functional.one_hot(y_B, self._classes).to(features_BD)
        scores_BK = fine_product(features_BD, self._W_DK)
        loss = nn.functional.mse_loss(scores_BK, onehot_BK).item()
        if not math.isfinite(loss):
            raise DivergedLoss(f"the squared error of a batch of {len(y_B)} is {loss}")
        predicted_B = scores_BK.argmax(1).cpu()
        loss_or_none = loss if self._predicts else None
        self._gram.add(features_BD)
        self._B_DK.addmm_(features_BD.T, onehot_BK)
        self._seen += len(y_B)
        if self._seen >= self._due:
            self._W_DK, self._predicts = self._exact(), True
            self._due = self._seen + until_refresh(self._seen - self._since, self._options.refresh_every)
        return Learned(predicted_B, loss_or_none)

    def boundary(self) -> None:
        """Solve for `learn`'s own predictions as often as at the start, from the next batch on."""
        self._since, self._due = self._seen, self._seen + self._options.first_refresh

    def unlearn(self, x_BCHW: Tensor, y_B: Tensor, batch: int) -> None:
        """Take samples off both sums, A − φφᵀ and B − φyᵀ, and solve anew: `service.learners.unlearning`.

        Both sums and W are then those of never having seen them, up to the rounding of float32. Raises
        NeverLearned when there are fewer samples of a class than shall be forgotten, or when one cannot
        be in A.
        """
        features_BD = features_as_learned(self._features, x_BCHW, batch)
        onehot_BK = nn.functional.one_hot(y_B, self._classes).to(features_BD)
        check_counts(onehot_BK.sum(0), self._B_DK[-1])  # the last feature is 1 for every sample
        check_leverage(features_BD, self._gram, self._options.penalty)
        self._gram.subtract(features_BD)
        self._B_DK.addmm_(features_BD.T, onehot_BK, alpha=-1)
        self._seen -= len(y_B)
        self._since = min(self._since, self._seen)
        self._due -= len(y_B)
        self._solved = (-1, self._W_DK)
        if self._predicts:
            self._W_DK = self._exact()

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return the softmax of the exact scores over the temperature; solves when that is stale."""
        return self._probabilities(self._exact(), x_BCHW)

    def _probabilities(self, W_DK: Tensor, x_BCHW: Tensor) -> Tensor:
        scores_BK = in_parts(lambda x: fine_product(self._features(x), W_DK), x_BCHW)
        return scores_BK.div_(self._options.temperature).softmax(1).cpu()

    def predictor(self) -> Predictor:
        """Return what predicts from the W of the last solve; solves first where the state had none."""
        if self._solved[0] < 0:
            self._exact()
        samples, W_DK = self._solved
        # converted once, and not for each image
        return Predictor(partial(self._probabilities, W_DK.double()), self._seen - samples)

    def state(self) -> State:
        """Return both sums, the W that `learn` predicts from, and the counts of samples."""
        tensors = {"A": self._gram.folded, "A_recent": self._gram.recent, "B": self._B_DK}
        counts = torch.tensor([self._seen, self._since, self._due, self._predicts, self._gram.unfolded])
        samples, W_DK = self._solved
        solved = {} if samples < 0 else {"W": W_DK, "count": torch.tensor(samples)}
        return State(tensors | {"W": self._W_DK, "counts": counts}, {}, solved)

    def load_state(self, state: State) -> None:
        """Copy both sums, W and the counts of ``state`` into this learner."""
        self._gram.folded.copy_(state.tensors["A"])
        self._gram.recent.copy_(state.tensors["A_recent"])
        self._B_DK.copy_(state.tensors["B"])
        self._W_DK = state.tensors["W"].to(self._B_DK.device, copy=True)
        self._seen, self._since, self._due, predicts, self._gram.unfolded = state.tensors["counts"].tolist()
        self._predicts = bool(predicts)
        self._solved = (-1, self._W_DK)
        if state.solved:
            self._solved = (int(state.solved["count"]), state.solved["W"].to(self._B_DK.device, copy=True))

    def _exact(self) -> Tensor:
        """Return W of all samples so far, solving only when there are new ones."""
        if self._solved[0] != self._seen:
            self._solved = (self._seen, self._gram.solve(self._B_DK, self._options.penalty))
        return self._solved[1]
