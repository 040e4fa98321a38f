"""Ridge regression under differential privacy: Gaussian noise on the sums A and B, block by block.

Shapes: B batch, C channels, H height, W width, D features, K classes.
"""

import math
from fractions import Fraction
from functools import partial
from typing import ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor, nn

from lethe.learners.base import Learned, LearnerContext, Retention
from lethe.learners.fixed_features import FixedFeatures
from lethe.learners.modules import LinearClassifier
from lethe.learners.predictor import Predictor, in_chunks
from lethe.learners.private.base import Privacy, PrivateLearner, PrivateOptions
from lethe.learners.private.grid import Grid, round_to_grid
from lethe.learners.private.unit_features import UnitFeatures
from lethe.learners.state import State

__all__ = ["SQUARED_SENSITIVITY", "DPRidge", "DPRidgeOptions"]

SQUARED_SENSITIVITY: Final = Fraction(9, 2)
"""Square of the change of (A, B), in the Frobenius norm of both, when one record replaces another."""
_TEMPERATURE = 0.1  # of the softmax over the scores, as for ridge
_LARGEST: Final = 255
"""Most units of one feature: the sum of products of `_AT_ONCE` samples is exact in float32."""
_USUAL: Final = 32
"""Units of a typical feature; one of more than eight times as many is clipped, which is rare."""
_AT_ONCE: Final = 256
_SHORTER: Final = 1 - 2**-10  # so that few rows are too long after rounding


class DPRidgeOptions(PrivateOptions):
    """Blocks, solution and privacy budget of `DPRidge`; each block is a release.

    The default of ``penalty`` was chosen, of 0.03 to 1, as those of `DPFinetuneOptions` were, on a
    validation split of Fashion-MNIST: ``python -m tests.benchmarks.hyperparameters dp-ridge --dataset
    fashion-mnist --view none --option penalty=0.125``.
    """

    first_block: int = Field(default=1024, ge=1)
    """Samples of the first block, after which predictions first use what was learned."""
    largest_block: int = Field(default=8192, ge=1)
    """Samples up to which blocks double: larger ones carry less noise, smaller ones are used sooner."""
    penalty: float = Field(default=0.125, gt=0)
    """λ over the expected largest eigenvalue of the noise on A."""


class DPRidge(PrivateLearner, FixedFeatures):
    """Ridge regression from noisy sums, independent of the order of the samples.

    Sums such as A = Σ φφᵀ and B = Σ φyᵀ are not anonymous by themselves: the difference of two of
    them is a sample. Here they carry noise from the beginning:

    - The stream is cut into blocks by the number of samples alone. The sums of a block start from
      noise instead of zero, and the samples are added to it; after its last batch the block is added to
      the sums of all blocks before, and W is solved from those.
    - φ is rounded to whole numbers of a length of F at most, whatever the image, and y is F times one-hot.
      Float64 holds all sums of such products exactly, and the noise is of whole numbers, too, sampled
      exactly (`discrete_gaussian`): no bit of a sum is rounded off, and each matrix of whole numbers can
      come of any block (`DPFinetune` says why that matters).
    - One record replaced by any other well-formed one moves A and B together by at most
      √(‖φφᵀ − ψψᵀ‖² + ‖φyᵀ − ψzᵀ‖²) ≤ √4.5 · F², reached for y = z and φᵀψ = −F²/2. A is symmetric, so its
      noise is, too: of variance σ² on the diagonal and σ²/2 above it, where each difference counts twice
      in the Frobenius norm. Over the numbers on and above the diagonal and those of B, Σ Δᵢ²/2σᵢ² is then
      that norm's square over 2σ²: the block is ρ-zCDP with ρ = 4.5 F⁴/2σ², of which `accounting` has the ε.
    - Each record is in one block, so its (ε, δ) is that of *one* such mechanism, however long the stream
      is. Where a person may have ``appearances`` records, no two of them in one block, it is what so many
      mechanisms cost. What a restart does to this is in `private`; where a published block was lost, the
      current one gets additional noise.
    - Covered are the sums of all finished blocks, every W solved from them, and all that is made from
      W: predictions, accuracies on probes; all of it together, at every moment.
    - Not covered are the sums of the block that is going on, which a checkpoint holds. By itself such a
      checkpoint has the same noise; but what it differs by from another one of its block, or from the
      finished block, is a sum without noise. So checkpoints are for the service alone.
    - Not covered is what a service counts of its stream beside the learner: how many records came,
      when, how many were predicted right before they were learned, and where boundaries were found. No
      loss is reported.

    λ is ``penalty`` times √(2 D k) deviations, where the spectrum of the noise of k blocks ends (Wigner
    1955); eigenvalues of A below 0 are noise, and put to 0. Neither costs privacy.
    """

    name: ClassVar[str] = "dp-ridge"
    retains: ClassVar[Retention] = Retention.STATISTICS
    summary: ClassVar[str] = (
        "ridge regression from noisy sums: differentially private, independent of the order of samples"
    )
    paper: ClassVar[str] = "Wang 2018, Revisiting Differentially Private Linear Regression"
    batch_size: ClassVar[int] = 512
    Options: ClassVar[type[DPRidgeOptions]] = DPRidgeOptions
    reports_probabilities: ClassVar[bool] = True

    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context)
        self._options = DPRidgeOptions.of(context.options)
        self._device, self._classes = context.device, context.layout.classes
        self._features = UnitFeatures(context.layout, self._options, context.device)
        D, K = self._features.count, self._classes
        longest = min(math.isqrt(_USUAL**2 * D), 4 * _LARGEST)  # the constant feature is a fourth of it
        self._grid = Grid.of(self._accountant.deviation, SQUARED_SENSITIVITY, longest**2)
        self._length = math.isqrt(self._grid.reach)
        """F."""
        self._A_DD = torch.zeros(D, D, dtype=torch.float64, device=context.device)
        self._B_DK = torch.zeros(D, K, dtype=torch.float64, device=context.device)
        self._W_DK = torch.zeros(D, K, device=context.device)
        self._blocks = self._in_block = 0  # finished blocks, samples in the one that is going on
        self._block_A_DD, self._block_B_DK = self._noisy_zeros()

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        """Predict from the last block's W, then add the batch to the noisy sums.

        No loss is reported, because it would be a statistic of these records without noise. Raises
        DivergedLoss, and BudgetSpent when this batch would exceed the budget.
        """
        self._check_budget()
        features_BD = self._whole(x_BCHW)
        onehot_BK = nn.functional.one_hot(y_B, self._classes).to(features_BD)
        scores_BK = (features_BD @ self._W_DK).div_(self._length)
        loss = nn.functional.mse_loss(scores_BK, onehot_BK).item()
        self.require_finite(len(y_B), squared_error=loss)
        self._add(features_BD, onehot_BK)
        self._accountant.released()
        self._in_block += len(y_B)
        if self._in_block >= self._block_size:
            self._finish_block()
        return Learned(
            scores_BK.argmax(1).cpu(), None, probabilities=lambda: (scores_BK / _TEMPERATURE).softmax(1).cpu()
        )

    def _whole(self, x_BCHW: Tensor) -> Tensor:
        """Return features as whole numbers, float32 of shape [B, D], of length F at most, each up to 255."""
        return _rounded(self._features(x_BCHW), self._length)

    def _add(self, features_BD: Tensor, onehot_BK: Tensor) -> None:
        for q_PD, y_PK in zip(
            torch.split(features_BD, _AT_ONCE), torch.split(onehot_BK, _AT_ONCE), strict=True
        ):
            self._block_A_DD += q_PD.T @ q_PD  # of whole numbers up to 255: exact, as no sum exceeds 2²⁴
            self._block_B_DK.add_(q_PD.T @ y_PK, alpha=self._length)

    @property
    def _block_size(self) -> int:
        doubled = self._options.first_block << min(self._blocks, 32)
        return max(self._options.first_block, min(doubled, self._options.largest_block))

    def _noisy_zeros(self) -> tuple[Tensor, Tensor]:
        """Return the sums of an empty block: noise, whose key has been replaced."""
        D, bits = len(self._A_DD), self._grid.variance_bits
        rows, columns = torch.triu_indices(D, D, 1)
        # where σ = 1, a variance of ½ is none of the sampler's: 1 there is more noise than needed
        above = self._noise.draw(max(0, bits - 1), len(rows)).to(torch.float64)
        A_DD = self._noise.draw(bits, D).to(torch.float64).diag()
        A_DD[rows, columns] = above
        A_DD[columns, rows] = above
        return A_DD.to(self._device), self._noise.draw(bits, *self._B_DK.shape).to(self._B_DK)

    def _finish_block(self) -> None:
        self._A_DD += self._block_A_DD
        self._B_DK += self._block_B_DK
        self._blocks, self._in_block = self._blocks + 1, 0
        self._block_A_DD, self._block_B_DK = self._noisy_zeros()
        self._W_DK = self._solve()

    def _solve(self) -> Tensor:
        eigenvalues_D, vectors_DD = torch.linalg.eigh(self._A_DD)
        deviation = 2.0**self._grid.sigma_bits * math.sqrt(self._blocks)
        penalty = self._options.penalty * deviation * math.sqrt(2 * len(eigenvalues_D))
        inverse_D = 1 / (eigenvalues_D.clamp_min(0) + penalty)
        W_DK: Tensor = vectors_DD @ (inverse_D.unsqueeze(1) * (vectors_DD.T @ self._B_DK))
        return W_DK.to(torch.float32).contiguous()

    def predict_proba(self, x_BCHW: Tensor) -> Tensor:
        """Return the softmax of the scores from the last block's W."""
        return self._probabilities(self._W_DK, x_BCHW)

    def _probabilities(self, W_DK: Tensor, x_BCHW: Tensor) -> Tensor:
        return in_chunks(lambda x: self._from_features(W_DK, self._whole(x)), x_BCHW)

    def _from_features(self, W_DK: Tensor, features_BD: Tensor) -> Tensor:
        return (features_BD @ W_DK).div_(self._length * _TEMPERATURE).softmax(1).cpu()

    def features(self, x_BCHW: Tensor) -> Tensor:
        """Return the fixed features, as whole numbers in float32: `FixedFeatures`."""
        return self._whole(x_BCHW)

    def predict_features(self, features_BD: Tensor) -> Tensor:
        """Return what `predict_proba` returns for images with these features: `FixedFeatures`."""
        return in_chunks(partial(self._from_features, self._W_DK), features_BD)

    def module(self) -> nn.Module:
        """Return the features and the W of the last block, which the guarantee covers."""
        features = _WholeModule(self._features.module(), self._length)
        scale = 1 / (self._length * _TEMPERATURE)
        return LinearClassifier(features, self._W_DK, torch.zeros_like(self._W_DK[0]), scale)

    def predictor(self) -> Predictor:
        """Return a predictor with the current W; the next block replaces it."""
        return Predictor(partial(self._probabilities, self._W_DK))

    def privacy(self) -> Privacy:
        """Return the privacy cost of the blocks started so far, and whether the budget allows more."""
        return self._accountant.privacy(self._blocks + (self._in_block > 0), self._blocks + 1)

    def record_rollback(self, releases: int, ways: int = 1) -> None:
        """Record that later states were published; the current block can have been part of them."""
        super().record_rollback(releases, ways)
        A_DD, B_DK = self._noisy_zeros()
        self._block_A_DD += A_DD
        self._block_B_DK += B_DK

    def state(self) -> State:
        """Return the noisy sums, W, the key of seeded noise and the counts."""
        tensors = {"A": self._A_DD, "B": self._B_DK, "W": self._W_DK}
        block = {"block.A": self._block_A_DD, "block.B": self._block_B_DK}
        counts = {"blocks": self._blocks, "in_block": self._in_block}
        return State(tensors | block | self._noise.state(), counts | self._accountant.values())

    def load_state(self, state: State) -> None:
        """Copy the sums, W, the key and the counts of ``state`` into this learner."""
        tensors = state.tensors
        self._A_DD, self._B_DK, self._block_A_DD, self._block_B_DK = (
            self._units(tensors[name]) for name in ("A", "B", "block.A", "block.B")
        )
        self._W_DK = tensors["W"].to(self._device, copy=True)
        self._noise.load_state(tensors)
        self._blocks, self._in_block = (int(str(state.values[name])) for name in ("blocks", "in_block"))
        self._accountant.load_values(state.values)

    def _units(self, sums: Tensor) -> Tensor:
        """Return a copy of a state's sums in units of the grid; in older states they are float32, of φ."""
        if sums.dtype == torch.float32:
            return sums.to(self._device, torch.float64).mul_(self._length**2).round_()
        return sums.to(self._device, copy=True)


class _WholeModule(nn.Module):
    """Features of `UnitFeatures` as the whole numbers that sums are of."""

    def __init__(self, features: nn.Module, length: int) -> None:
        super().__init__()
        self.features, self._length = features, length

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return _rounded(self.features(x_BCHW), self._length)


def _rounded(features_BD: Tensor, length: int) -> Tensor:
    """Return features as whole numbers, float32, of ``length`` at most, each up to 255."""
    scaled_BD = features_BD.to(torch.float64) * (length * _SHORTER)
    squared_B = torch.full_like(scaled_BD[:, 0], float(length**2))
    return round_to_grid(scaled_BD.clamp(-_LARGEST, _LARGEST), squared_B).to(torch.float32)
