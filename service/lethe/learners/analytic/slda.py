"""Streaming linear discriminant analysis, exact in any order of the samples.

Shapes: B batch, C channels, H height, W width, D features, K classes.
"""

from functools import partial
from typing import ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor, nn

from lethe.learners.analytic.base import SumsLearner
from lethe.learners.analytic.refresh import RefreshSchedule
from lethe.learners.analytic.solution import cholesky, cholesky_solve
from lethe.learners.base import Learned, LearnerContext
from lethe.learners.features.choice import FeatureOptions
from lethe.learners.modules import LinearClassifier
from lethe.learners.predictor import Predictor, in_chunks
from lethe.learners.state import State

__all__ = ["SLDA", "SLDAOptions"]

_UNSEEN: Final = -1e4  # score of a class without samples

Discriminant = tuple[Tensor, Tensor]
"""W of shape [D, K] and b of shape [K]: the scores φᵀW + b are log-probabilities, up to a constant."""


class SLDAOptions(FeatureOptions):
    """Features and solution of `SLDA`."""

    waves: int = Field(default=2000, ge=0)
    """Number of random Fourier features beside the wavelets; capped for small images and short vectors."""
    shrinkage: float = Field(default=1e-3, gt=0, le=1)
    """ε of (1 − ε) S + ε · (mean variance) · I, the estimate of the covariance S: larger is smoother."""
    first_refresh: int = Field(default=64, ge=1)
    """Samples until `learn` first predicts from a solution."""
    refresh_every: int = Field(default=16384, ge=1)
    """Samples between two solves for the predictions of `learn`; early on, it solves whenever their number
    has grown fourfold."""


class SLDA(SumsLearner):
    """Models each class as a Gaussian in fixed features φ, with its own mean and a shared covariance.

    The state is Σ φφᵀ, and Σ φ and the number of samples per class, in whole numbers (`SumsLearner`). All are
    independent of the order of the samples: the within-class covariance S = (Σ φφᵀ − Σ_k n_k μ_k μ_kᵀ) / n is
    that of all samples about their final means, whereas the original updates S with running means, which
    makes it depend on the order. Scores are μ_kᵀS⁻¹φ − ½ μ_kᵀS⁻¹μ_k + log n_k.

    Cost per sample: ½ D² multiply-adds of int8, and the features. State: ½ D² numbers of 32 bits
    (40 from 133,145 samples on), D K of 64.
    """

    name: ClassVar[str] = "slda"
    summary: ClassVar[str] = "linear discriminant analysis on fixed wavelet features, exact in any order"
    paper: ClassVar[str] = "Hayes & Kanan 2020, Lifelong Machine Learning with Deep Streaming LDA"
    Options: ClassVar[type[SLDAOptions]] = SLDAOptions
    reports_probabilities: ClassVar[bool] = True

    def __init__(self, context: LearnerContext) -> None:
        self._options = SLDAOptions.of(context.options)
        super().__init__(context, self._options)
        self._W_DK = torch.zeros(self._features.count, self._classes, device=self._device)
        self._b_K = torch.zeros_like(self._W_DK[0])
        self._schedule = RefreshSchedule(self._options.first_refresh, self._options.refresh_every)
        self._solved: tuple[int, Discriminant] = (0, (self._W_DK, self._b_K))

    def _learn(self, features_BD: Tensor, y_B: Tensor) -> Learned:
        """Predict from the last due solution, then add the batch to all sums.

        ``loss`` is the mean negative log-likelihood of the labels. Raises DivergedLoss.
        """
        scores_BK = (features_BD.to(torch.float32) @ self._W_DK).add_(self._b_K)
        loss = nn.functional.cross_entropy(scores_BK, y_B.to(self._device)).item()
        self.require_finite(len(y_B), loss=loss)
        predicted_B = scores_BK.argmax(1).cpu()
        self._sums.add(features_BD, y_B)
        if self._pool is None and self._schedule.passed(self._sums.samples):
            self._W_DK, self._b_K = self._exact()
        return Learned(predicted_B, loss, probabilities=lambda: scores_BK.softmax(1).cpu())

    def predict_proba(self, x_BCHW: Tensor) -> Tensor:
        """Return the probabilities of the classes; solves where the solution is out of date."""
        return self._probabilities(self._exact(), x_BCHW)

    def predict_features(self, features_BD: Tensor) -> Tensor:
        """Return what `predict_proba` returns for images with these features: `FixedFeatures`."""
        return in_chunks(partial(self._from_features, self._exact()), features_BD)

    def module(self) -> nn.Module:
        """Return the features and the present solution."""
        W_DK, b_K = self._exact()
        return LinearClassifier(self._features.module(), W_DK, b_K, 1.0)

    def predictor(self) -> Predictor:
        """Return a predictor with the last solution; solves first where there was none."""
        if self._solved[0] < 0:
            self._exact()
        samples, discriminant = self._solved  # never written to: the next solve creates another one
        return Predictor(partial(self._probabilities, discriminant), self._samples - samples)

    def state(self) -> State:
        """Return the sums, the solution from which `learn` predicts, and the schedule of solves."""
        sums = self._sums.tensors()
        solution = {"W": self._W_DK, "b": self._b_K, "counts": torch.tensor([self._schedule.due])}
        samples, (W_DK, b_K) = self._solved
        solved = {} if samples < 0 else {"W": W_DK, "b": b_K, "count": torch.tensor(samples)}
        return State(
            {**sums, **self._features.tensors(), **solution}, {}, solved, dict.fromkeys(sums, self._sums.mark)
        )

    def load_state(self, state: State) -> None:
        """Copy the sums, the solution and the schedule of ``state`` into this learner."""
        self._features.load(state.tensors)
        self._sums.load(state.tensors)
        self._W_DK = state.tensors["W"].to(self._device, copy=True)
        self._b_K = state.tensors["b"].to(self._device, copy=True)
        self._schedule.due = int(state.tensors["counts"])
        self._solved = (-1, (self._W_DK, self._b_K))
        if state.solved:
            W_DK, b_K = (state.solved[name].to(self._device, copy=True) for name in ("W", "b"))
            self._solved = (int(state.solved["count"]), (W_DK, b_K))

    def _sums_changed(self, by: int) -> None:
        self._schedule.shift(self._sums.samples, by)
        self._solved = (-1, (self._W_DK, self._b_K))
        if self._b_K.any():  # `learn` predicts from a solution already
            self._W_DK, self._b_K = self._exact()

    def share(self, *, refresh: bool) -> None:
        """Give the solution to all ranks; with ``refresh``, solve for it first."""
        if refresh and self._ranks.leads:
            self._W_DK, self._b_K = self._exact()
        for tensor in (self._W_DK, self._b_K):
            self._ranks.broadcast(tensor)

    def share_solution(self) -> None:
        """Give the exact solution to all ranks, to predict from: `Pools`."""
        leads = self._ranks.leads
        discriminant = self._exact() if leads else (torch.empty_like(self._W_DK), torch.empty_like(self._b_K))
        for tensor in discriminant:
            self._ranks.broadcast(tensor)
        self._solved = (self._sums.samples, discriminant)

    def _refresh_passed(self) -> bool:
        return self._schedule.passed(self._samples)

    def _probabilities(self, discriminant: Discriminant, x_BCHW: Tensor) -> Tensor:
        return in_chunks(lambda x: self._from_features(discriminant, self._features(x)), x_BCHW)

    def _from_features(self, discriminant: Discriminant, features_BD: Tensor) -> Tensor:
        W_DK, b_K = discriminant
        return (features_BD.to(torch.float32) @ W_DK).add_(b_K).softmax(1).cpu()

    def _exact(self) -> Discriminant:
        """Return the solution for all samples so far, solving only where that has changed."""
        samples = self._sums.samples
        if self._solved[0] != samples:
            self._solved = (samples, self._solve())
        return self._solved[1]

    def _solve(self) -> Discriminant:
        counts_K, scales_D = self._sums.class_counts, self._features.scales
        sums_DK = self._sums.B_DK * scales_D[:, None]
        means_DK = sums_DK / counts_K.clamp_min(1)
        covariance_DD = self._sums.upper().mul_(scales_D[:, None]).mul_(scales_D)
        covariance_DD.addmm_(sums_DK, means_DK.T, alpha=-1).div_(max(1, self._sums.samples))
        variance = covariance_DD.diagonal().mean().clamp_min(1e-12)
        shrinkage = self._options.shrinkage
        while True:  # rounding can outweigh a small shrinkage
            shrunk_DD = covariance_DD * (1 - shrinkage)
            shrunk_DD.diagonal().add_(shrinkage * variance)
            factor_DD = cholesky(shrunk_DD)
            if factor_DD is not None:
                break
            shrinkage = min(1.0, 10 * shrinkage)
        W_DK = cholesky_solve(means_DK, factor_DD)
        b_K = -(means_DK * W_DK).sum(0) / 2 + counts_K.clamp_min(1).log()
        b_K = torch.where(counts_K > 0, b_K, _UNSEEN)
        return (W_DK * scales_D[:, None]).to(torch.float32).contiguous(), b_K.to(torch.float32)
