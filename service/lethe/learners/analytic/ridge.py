"""Recursive ridge regression on fixed features, which does not depend on the order of the samples.

Shapes: B batch, C channels, H height, W width, D features, K classes.
"""

from functools import partial
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from lethe.learners.analytic.base import SumsLearner
from lethe.learners.analytic.refresh import RefreshSchedule
from lethe.learners.base import Learned, LearnerContext
from lethe.learners.features.choice import FeatureOptions
from lethe.learners.modules import LinearClassifier
from lethe.learners.predictor import Predictor, in_chunks
from lethe.learners.state import State

__all__ = ["Ridge", "RidgeOptions"]


class RidgeOptions(FeatureOptions):
    """Features and solution of `Ridge`."""

    waves: int = Field(default=4600, ge=0)
    """Number of random Fourier features beside the wavelets; capped for small images and short vectors."""
    penalty: float = Field(default=0.3, gt=0)
    """λ of (A + λI)⁻¹B: larger is smoother."""
    first_refresh: int = Field(default=64, ge=1)
    """Samples, at the start and after each boundary, until `learn` first predicts from a new solution."""
    refresh_every: int = Field(default=16384, ge=1)
    """`learn` solves anew at each multiple of so many samples; early on, whenever their number has grown
    fourfold."""
    temperature: float = Field(default=0.1, gt=0)
    """Divisor of the scores in the softmax: 0.1 had the highest likelihood on held-out MNIST and
    Fashion-MNIST, with a mean confidence of 0.964 for an accuracy of 0.954."""


class Ridge(SumsLearner):
    """Ridge regression from fixed features φ to one-hot labels, exact at any moment.

    The state is A = Σ φφᵀ and B = Σ φyᵀ, in whole numbers (`SumsLearner`). Sums do not depend on the order of
    the samples, and neither does W = (A + λI)⁻¹B, which gives the scores φᵀW. `predict_proba` solves for W
    when samples have been learned since the last solve. `learn` predicts from the W of the last scheduled
    solve (`RefreshSchedule`), so calls of `predict_proba` do not change its results.

    Sums are not anonymous by themselves: A and B before and after a batch differ by its samples' features,
    and with fewer samples than features W fits each of them (`lethe attack` measures how much that reveals).
    `DPRidge` adds noise to both. A sample can be subtracted from a sum again: `unlearn`.

    Cost per sample: ½ D² multiply-adds of int8, and the features. Cost per solve: a Cholesky factorisation of
    A. State: ½ D² numbers of 32 bits (40 from 133,145 samples on), D K of 64.

    >>> import torch
    >>> from lethe import Layout, LearnerContext, create
    >>> layout = Layout(height=8, width=8, classes=2)
    >>> ridge = create("ridge", LearnerContext(layout, options={"waves": 0}))
    >>> x_BCHW, y_B = torch.zeros(32, 1, 8, 8, dtype=torch.uint8), torch.arange(32) % 2
    >>> x_BCHW[y_B == 1] = 255  # images of class 1 are bright, those of class 0 dark
    >>> learned = ridge.learn(x_BCHW, y_B)  # predicts the batch, then learns it
    >>> ridge.predict_proba(x_BCHW[:2]).argmax(1).tolist()
    [0, 1]
    >>> ridge.unlearn(x_BCHW[1:2], y_B[1:2])  # as if that sample had never been learned
    """

    name: ClassVar[str] = "ridge"
    summary: ClassVar[str] = "ridge regression on fixed wavelet features, independent of the order of samples"
    paper: ClassVar[str] = "Zhuang et al. 2022, ACIL: Analytic Class-Incremental Learning"
    evaluate_every: ClassVar[int] = 16384  # when `learn` has solved, as by default it then has
    Options: ClassVar[type[RidgeOptions]] = RidgeOptions
    reports_probabilities: ClassVar[bool] = True

    def __init__(self, context: LearnerContext) -> None:
        self._options = RidgeOptions.of(context.options)
        super().__init__(context, self._options)
        self._penalty_D = self._options.penalty / self._features.scales.square()
        self._W_DK = torch.zeros(self._features.count, self._classes, device=self._device)
        self._predicts = False  # whether `learn` has a solution to predict from
        self._schedule = RefreshSchedule(self._options.first_refresh, self._options.refresh_every)
        self._solved: tuple[int, Tensor] = (0, self._W_DK)  # number of samples, and the exact W after them

    def _learn(self, features_BD: Tensor, y_B: Tensor) -> Learned:
        """Predict from the last due W, then add the batch to both sums.

        ``loss`` is the mean over samples and classes of the squared error of the scores, None
        before the first solve. Raises DivergedLoss.
        """
        scores_BK = features_BD.to(torch.float32) @ self._W_DK
        loss = nn.functional.mse_loss(
            scores_BK, nn.functional.one_hot(y_B, self._classes).to(scores_BK)
        ).item()
        self.require_finite(len(y_B), squared_error=loss)
        predicted_B = scores_BK.argmax(1).cpu()
        loss_or_none = loss if self._predicts else None
        self._sums.add(features_BD, y_B)
        if self._pool is None and self._schedule.passed(self._sums.samples):
            self._W_DK, self._predicts = self._exact(), True
        temperature = self._options.temperature
        return Learned(
            predicted_B, loss_or_none, probabilities=lambda: (scores_BK / temperature).softmax(1).cpu()
        )

    def boundary(self) -> None:
        """Restart the schedule of solves for the predictions of `learn`."""
        self._schedule.boundary(self._samples)

    def predict_proba(self, x_BCHW: Tensor) -> Tensor:
        """Return the softmax of the exact scores over the temperature; solves where W is out of date."""
        return self._probabilities(self._exact(), x_BCHW)

    def predict_features(self, features_BD: Tensor) -> Tensor:
        """Return what `predict_proba` returns for images with these features: `FixedFeatures`."""
        return in_chunks(partial(self._from_features, self._exact()), features_BD)

    def module(self) -> nn.Module:
        """Return the features and the present solution."""
        W_DK = self._exact()
        return LinearClassifier(
            self._features.module(), W_DK, torch.zeros_like(W_DK[0]), 1 / self._options.temperature
        )

    def predictor(self) -> Predictor:
        """Return a predictor with the W of the last solve; solves first where there was none."""
        if self._solved[0] < 0:
            self._exact()
        samples, W_DK = self._solved
        return Predictor(partial(self._probabilities, W_DK), self._samples - samples)

    def state(self) -> State:
        """Return both sums, the W from which `learn` predicts, and the schedule of solves."""
        sums = self._sums.tensors()
        counts = torch.tensor([self._schedule.since, self._schedule.due, self._predicts])
        samples, W_DK = self._solved
        solved = {} if samples < 0 else {"W": W_DK, "count": torch.tensor(samples)}
        marks = dict.fromkeys(sums, self._sums.mark)
        known = {**sums, **self._features.tensors(), "W": self._W_DK, "counts": counts}
        return State(known, {}, solved, marks)

    def load_state(self, state: State) -> None:
        """Copy both sums, W and the schedule of ``state`` into this learner."""
        self._features.load(state.tensors)
        self._sums.load(state.tensors)
        self._W_DK = state.tensors["W"].to(self._device, copy=True)
        self._schedule.since, self._schedule.due, predicts = state.tensors["counts"].tolist()
        self._predicts = bool(predicts)
        self._solved = (-1, self._W_DK)
        if state.solved:
            self._solved = (int(state.solved["count"]), state.solved["W"].to(self._device, copy=True))

    def share(self, *, refresh: bool) -> None:
        """Give W to all ranks; with ``refresh``, solve for it first."""
        if refresh and self._ranks.leads:
            self._W_DK, self._predicts = self._exact(), True
        predicts = torch.tensor(int(self._predicts))
        for tensor in (self._W_DK, predicts):
            self._ranks.broadcast(tensor)
        self._predicts = bool(predicts)

    def share_solution(self) -> None:
        """Give the exact W to all ranks, to predict from: `Pools`."""
        W_DK = self._exact() if self._ranks.leads else torch.empty_like(self._W_DK)
        self._ranks.broadcast(W_DK)
        self._solved = (self._sums.samples, W_DK)

    def _refresh_passed(self) -> bool:
        return self._schedule.passed(self._samples)

    def _probabilities(self, W_DK: Tensor, x_BCHW: Tensor) -> Tensor:
        return in_chunks(lambda x: self._from_features(W_DK, self._features(x)), x_BCHW)

    def _from_features(self, W_DK: Tensor, features_BD: Tensor) -> Tensor:
        return (features_BD.to(torch.float32) @ W_DK).div_(self._options.temperature).softmax(1).cpu()

    def _exact(self) -> Tensor:
        """Return W of all samples so far, solving only where that has changed."""
        samples = self._sums.samples
        if self._solved[0] != samples:
            self._solved = (samples, self._sums.ridge(self._penalty_D))
        return self._solved[1]

    def _sums_changed(self, by: int) -> None:
        self._schedule.shift(self._sums.samples, by)
        self._solved = (-1, self._W_DK)
        if self._predicts:
            self._W_DK = self._exact()
