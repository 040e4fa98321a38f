"""Streaming linear discriminant analysis: class means and one covariance, exact in any order of the samples.

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
from service.learners.gram import Gram
from service.learners.options import Options
from service.learners.predictor import Predictor, in_parts
from service.learners.products import fine_product
from service.learners.refresh import until_refresh
from service.learners.unlearning import check_counts, check_leverage, features_as_learned

__all__ = ["SLDA", "SLDAOptions"]

_UNSEEN: Final = -1e4  # the score of a class of which there is no sample
_CHECKED: Final = 0.3  # the penalty of a leverage: any makes it smaller for a sample that was learned

Discriminant = tuple[Tensor, Tensor]
"""W of shape [D, K] and b of shape [K]: the scores φᵀW + b are log-probabilities, up to a constant."""


class SLDAOptions(Options):
    """How `SLDA` sees and solves."""

    waves: int = Field(default=2000, ge=0)
    """Random Fourier features beside the wavelets: most of D, fewer for small images."""
    shrinkage: float = Field(default=1e-3, gt=0, le=1)
    """ε of (1 − ε) S + ε · (mean variance) · I, which stands for the covariance S: larger is smoother."""
    first_refresh: int = Field(default=64, ge=1)
    """Samples until learning predicts from what it learned."""
    refresh_every: int = Field(default=16384, ge=1)
    """Samples between two solves for learning's own predictions; early on, whenever there are four
    times as many."""


class SLDA(Learner):
    """Each class is a Gaussian in fixed features φ: a mean of its own, and the covariance of all.

    It keeps Σ φφᵀ, and Σ φ and the number of samples of each class. All are sums, so their order is
    nothing to it: the within-class covariance S = (Σ φφᵀ − Σ_k n_k μ_k μ_kᵀ) / n is that of all
    samples about their final means. The original updates S with the running mean of the moment, so
    that it depends on the order. Scores are μ_kᵀS⁻¹φ − ½ μ_kᵀS⁻¹μ_k + log n_k.

    Cost a sample: D² multiply-adds, and those of the features. State: D² + D K float32 numbers.
    """

    name: ClassVar[str] = "slda"
    retains: ClassVar[Retention] = Retention.STATISTICS
    summary: ClassVar[str] = "linear discriminant analysis on fixed wavelet features, exact in any order"
    batch_size: ClassVar[int] = 512  # fewer passes over the sum; it is the same
    paper: ClassVar[str] = "Hayes & Kanan 2020, Lifelong Machine Learning with Deep Streaming LDA"
    Options: ClassVar[type[SLDAOptions]] = SLDAOptions

    def __init__(self, context: LearnerContext) -> None:
        self._options = SLDAOptions.of(context.options)
        self._features = WaveletFeatures(context.layout, context.seed, self._options.waves, context.device)
        self._classes, features = context.layout.classes, self._features.count
        self._gram = Gram(features, context.device)
        self._sums_DK = torch.zeros(features, self._classes, device=context.device)
        self._counts_K = torch.zeros(self._classes, device=context.device, dtype=torch.float64)
        self._W_DK, self._b_K = torch.zeros_like(self._sums_DK), torch.zeros_like(self._sums_DK[0])
        self._seen, self._due = 0, self._options.first_refresh
        self._solved: tuple[int, Discriminant] = (0, (self._W_DK, self._b_K))

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        """Predict from the last due solution, then add the batch to all sums.

        ``loss`` is the mean negative log-likelihood of the labels. Raises DivergedLoss.
        """
        features_BD = self._features(x_BCHW)
        onehot_BK = nn.functional.one_hot(y_B, self._classes).to(features_BD)
        scores_BK = fine_product(features_BD, self._W_DK).add_(self._b_K)
        loss = -(scores_BK.log_softmax(1) * onehot_BK).sum(1).mean().item()
        if not math.isfinite(loss):
            raise DivergedLoss(f"the loss of a batch of {len(y_B)} is {loss}")
        predicted_B = scores_BK.argmax(1).cpu()
        self._gram.add(features_BD)
        self._sums_DK.addmm_(features_BD.T, onehot_BK)
        self._counts_K.add_(onehot_BK.sum(0))
        self._seen += len(y_B)
        if self._seen >= self._due:
            self._W_DK, self._b_K = self._exact()
            self._due = self._seen + until_refresh(self._seen, self._options.refresh_every)
        return Learned(predicted_B, loss)

    def unlearn(self, x_BCHW: Tensor, y_B: Tensor, batch: int) -> None:
        """Take samples off all sums, and solve anew: `service.learners.unlearning`.

        The sums and the solution are then those of never having seen them, up to the rounding of
        float32. Raises NeverLearned when there are fewer samples of a class than shall be forgotten, or
        when one cannot be in Σ φφᵀ.
        """
        features_BD = features_as_learned(self._features, x_BCHW, batch)
        onehot_BK = nn.functional.one_hot(y_B, self._classes).to(features_BD)
        check_counts(onehot_BK.sum(0), self._counts_K)
        check_leverage(features_BD, self._gram, _CHECKED)
        self._gram.subtract(features_BD)
        self._sums_DK.addmm_(features_BD.T, onehot_BK, alpha=-1)
        self._counts_K.sub_(onehot_BK.sum(0))
        self._seen -= len(y_B)
        self._due -= len(y_B)
        self._solved = (-1, (self._W_DK, self._b_K))
        if self._b_K.any():  # it predicts from what it learned already
            self._W_DK, self._b_K = self._exact()

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return the classes' probabilities; solves when the solution is stale."""
        return self._probabilities(self._exact(), x_BCHW)

    def predictor(self) -> Predictor:
        """Return what predicts from the last solution; solves first where the state had none."""
        if self._solved[0] < 0:
            self._exact()
        samples, discriminant = self._solved  # never written to: the next solve makes another
        return Predictor(partial(self._probabilities, discriminant), self._seen - samples)

    def state(self) -> State:
        """Return the sums, the solution that `learn` predicts from, and the counts of samples."""
        sums = {"A": self._gram.folded, "A_recent": self._gram.recent, "sums": self._sums_DK}
        counts = torch.tensor([self._seen, self._due, self._gram.unfolded])
        solution = {"W": self._W_DK, "b": self._b_K}
        samples, (W_DK, b_K) = self._solved
        solved = {} if samples < 0 else {"W": W_DK, "b": b_K, "count": torch.tensor(samples)}
        return State(sums | solution | {"class_counts": self._counts_K, "counts": counts}, {}, solved)

    def load_state(self, state: State) -> None:
        """Copy the sums, the solution and the counts of ``state`` into this learner."""
        self._gram.folded.copy_(state.tensors["A"])
        self._gram.recent.copy_(state.tensors["A_recent"])
        self._sums_DK.copy_(state.tensors["sums"])
        self._counts_K.copy_(state.tensors["class_counts"])
        self._W_DK = state.tensors["W"].to(self._sums_DK.device, copy=True)
        self._b_K = state.tensors["b"].to(self._sums_DK.device, copy=True)
        self._seen, self._due, self._gram.unfolded = state.tensors["counts"].tolist()
        self._solved = (-1, (self._W_DK, self._b_K))
        if state.solved:
            W_DK, b_K = (state.solved[name].to(self._sums_DK.device, copy=True) for name in ("W", "b"))
            self._solved = (int(state.solved["count"]), (W_DK, b_K))

    def _probabilities(self, discriminant: Discriminant, x_BCHW: Tensor) -> Tensor:
        W_DK, b_K = discriminant
        scores_BK = in_parts(lambda x: fine_product(self._features(x), W_DK).add_(b_K), x_BCHW)
        return scores_BK.softmax(1).cpu()

    def _exact(self) -> Discriminant:
        """Return the solution for all samples so far, solving only when there are new ones."""
        if self._solved[0] != self._seen:
            self._solved = (self._seen, self._solve())
        return self._solved[1]

    def _solve(self) -> Discriminant:
        sums_DK, counts_K = self._sums_DK.to(torch.float64), self._counts_K
        means_DK = sums_DK / counts_K.clamp_min(1)
        covariance_DD = self._gram.upper().addmm_(sums_DK, means_DK.T, alpha=-1).div_(max(1, self._seen))
        variance = covariance_DD.diagonal().mean().clamp_min(1e-12)
        if not variance.isfinite():  # no shrinkage would ever be enough
            raise FloatingPointError(f"the covariance of {len(covariance_DD)} features is not finite")
        shrinkage = self._options.shrinkage
        while True:  # rounding can outweigh a small shrinkage
            shrunk_DD = covariance_DD * (1 - shrinkage)
            shrunk_DD.diagonal().add_(shrinkage * variance)
            factor_DD, failed = torch.linalg.cholesky_ex(shrunk_DD, upper=True)
            if not failed.item():
                break
            shrinkage = min(1.0, 10 * shrinkage)
        W_DK = torch.cholesky_solve(means_DK, factor_DD, upper=True)
        b_K = -(means_DK * W_DK).sum(0) / 2 + counts_K.clamp_min(1).log()
        b_K = torch.where(counts_K > 0, b_K, _UNSEEN)
        return W_DK.to(torch.float32).contiguous(), b_K.to(torch.float32)
