"""Ridge regression under differential privacy: Gaussian noise on the sums A and B, block by block.

Shapes: B batch, C channels, H height, W width, D features, K classes.
"""

import math
from typing import ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor, nn

from service.errors import DivergedLoss
from service.learners.base import Learned, LearnerContext, Retention, State
from service.learners.bounded import UnitFeatures
from service.learners.predictor import in_parts
from service.learners.private import Account, Privacy, PrivateLearner, PrivateOptions
from service.learners.products import fine_product

__all__ = ["SENSITIVITY", "DPRidge", "DPRidgeOptions"]

SENSITIVITY: Final = math.sqrt(4.5)
"""How far (A, B) moves, in the Frobenius norm of both, when one record takes another's place."""
_TEMPERATURE = 0.1  # of the softmax over the scores, as for ridge


class DPRidgeOptions(PrivateOptions):
    """How `DPRidge` solves, and what it may spend; each block is a release.

    The default of ``penalty`` was chosen, of 0.03 to 1, as those of `DPFinetuneOptions` were, on a
    validation split of Fashion-MNIST: ``python -m tests.benchmarks.hyperparameters dp-ridge --dataset
    fashion-mnist --view none --option penalty=0.125``.
    """

    first_block: int = Field(default=1024, ge=1)
    """Samples of the first block, after which it first predicts from what it learned."""
    largest_block: int = Field(default=8192, ge=1)
    """Blocks double up to this: larger ones carry less noise in all, smaller ones are known sooner."""
    penalty: float = Field(default=0.125, gt=0)
    """λ over the largest eigenvalue to be expected of the noise on A."""


class DPRidge(PrivateLearner):
    """Least squares from noisy sums: the order of the samples cannot make it forget.

    Sums such as A = Σ φφᵀ and B = Σ φyᵀ are not anonymous by themselves: the difference of two of
    them is a sample. Here they carry noise from the beginning:

    - The stream is cut into blocks by the number of samples alone. The sums of a block start from
      Gaussian noise instead of zero, and the samples are added to it; after its last batch the
      block is added to the sums of all blocks before, and W is solved from those.
    - ‖φ‖ ≤ 1 and y is one-hot. One record replaced by any other well-formed one moves A and B
      together by at most √(‖φφᵀ − ψψᵀ‖² + ‖φyᵀ − ψzᵀ‖²) ≤ √4.5, reached for y = z and φᵀψ = −1/2.
      A is symmetric, so its noise is, too: of the full deviation on the diagonal and 1/√2 of it
      elsewhere, which in the Frobenius norm is the same in every direction.
    - Each record is in one block, so its (ε, δ) is that of *one* Gaussian mechanism, however long
      the stream is; `accounting` has it exactly. Where a person may have ``appearances`` records, no
      two of them in one block, it is what so many mechanisms cost.
    - Covered are the sums of all finished blocks, every W solved from them, and all that is made from
      W: predictions, accuracies on probes; all of it together, at every moment.
    - Not covered are the sums of the block that is going on, which a checkpoint holds. By itself such a
      checkpoint has the same noise; but what it differs by from another one of its block, or from the
      finished block, is a sum without noise. So checkpoints are for the service alone.
    - Not covered is what a service counts of its stream beside the learner: how many records came,
      when, and how many were predicted right before they were learned. No loss is reported.

    λ is ``penalty`` times √(2 D k) deviations, where the spectrum of the noise of k blocks ends (Wigner
    1955); eigenvalues of A below 0 are noise, and put to 0. Neither costs privacy.
    """

    name: ClassVar[str] = "dp-ridge"
    retains: ClassVar[Retention] = Retention.STATISTICS
    summary: ClassVar[str] = (
        "least squares from sums with noise: differentially private, and no order makes it forget"
    )
    paper: ClassVar[str] = "Wang 2018, Revisiting Differentially Private Linear Regression"
    batch_size: ClassVar[int] = 512
    Options: ClassVar[type[DPRidgeOptions]] = DPRidgeOptions

    def __init__(self, context: LearnerContext) -> None:
        self._options = chosen = DPRidgeOptions.of(context.options)
        self._account = Account(chosen)
        self._noise = chosen.draw(context.seed)
        self._features = UnitFeatures(context.layout, context.device)
        self._device, self._classes = context.device, context.layout.classes
        count = self._features.count
        self._A_DD = torch.zeros(count, count, device=context.device)
        self._B_DK = torch.zeros(count, self._classes, device=context.device)
        self._W_DK = torch.zeros_like(self._B_DK)
        self._blocks = self._in_block = 0  # finished blocks, samples in the one that is going on
        self._block_A_DD, self._block_B_DK = self._noisy_zeros()

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        """Predict from the last block's W, then add the batch to the noisy sums.

        No loss is reported: it would be a number about these records without noise. Raises
        DivergedLoss, and BudgetSpent when this batch would cost more than is left.
        """
        self._check_budget()
        features_BD = self._features(x_BCHW)
        onehot_BK = nn.functional.one_hot(y_B, self._classes).to(features_BD)
        scores_BK = fine_product(features_BD, self._W_DK)
        loss = nn.functional.mse_loss(scores_BK, onehot_BK).item()
        if not math.isfinite(loss):
            raise DivergedLoss(f"the squared error of a batch of {len(y_B)} is {loss}")
        self._block_A_DD.addmm_(features_BD.T, features_BD)
        self._block_B_DK.addmm_(features_BD.T, onehot_BK)
        self._in_block += len(y_B)
        if self._in_block >= self._block_size:
            self._finish_block()
        return Learned(scores_BK.argmax(1).cpu(), None)

    @property
    def _block_size(self) -> int:
        doubled = self._options.first_block << min(self._blocks, 32)
        return max(self._options.first_block, min(doubled, self._options.largest_block))

    def _noisy_zeros(self) -> tuple[Tensor, Tensor]:
        """Return the sums of a block without samples: noise, and the key that drew it is gone."""
        deviation = self._account.deviation * SENSITIVITY
        square_DD = self._noise.normal(*self._A_DD.shape)
        above_DD = square_DD.triu(1) / math.sqrt(2)
        A_DD = above_DD + above_DD.T + square_DD.diagonal().diag()
        B_DK = self._noise.normal(*self._B_DK.shape)
        return A_DD.mul_(deviation).to(self._device), B_DK.mul_(deviation).to(self._device)

    def _finish_block(self) -> None:
        self._A_DD += self._block_A_DD
        self._B_DK += self._block_B_DK
        self._blocks, self._in_block = self._blocks + 1, 0
        self._block_A_DD, self._block_B_DK = self._noisy_zeros()
        self._W_DK = self._solve()

    def _solve(self) -> Tensor:
        eigenvalues_D, vectors_DD = torch.linalg.eigh(self._A_DD.to(torch.float64))
        deviation = self._account.deviation * SENSITIVITY * math.sqrt(self._blocks)
        penalty = self._options.penalty * deviation * math.sqrt(2 * len(eigenvalues_D))
        inverse_D = 1 / (eigenvalues_D.clamp_min(0) + penalty)
        W_DK: Tensor = vectors_DD @ (inverse_D.unsqueeze(1) * (vectors_DD.T @ self._B_DK.to(torch.float64)))
        return W_DK.to(torch.float32).contiguous()

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return the softmax of the scores from the last block's W."""
        scores_BK = in_parts(lambda x: fine_product(self._features(x), self._W_DK), x_BCHW)
        return scores_BK.div_(_TEMPERATURE).softmax(1).cpu()

    def privacy(self) -> Privacy:
        """Return what the blocks begun until now have cost a person, and if one more batch may."""
        return self._account.privacy(self._blocks + (self._in_block > 0), self._blocks + 1)

    def state(self) -> State:
        """Return the sums, all of them with noise, W, the key of the next block's noise and the counts."""
        tensors = {"A": self._A_DD, "B": self._B_DK, "W": self._W_DK, "key": self._noise.key}
        block = {"block.A": self._block_A_DD, "block.B": self._block_B_DK}
        return State(tensors | block, {"blocks": self._blocks, "in_block": self._in_block})

    def load_state(self, state: State) -> None:
        """Copy the sums, W, the key and the counts of ``state`` into this learner."""
        tensors = state.tensors
        self._A_DD, self._B_DK, self._W_DK, self._block_A_DD, self._block_B_DK = (
            tensors[name].to(self._device, copy=True) for name in ("A", "B", "W", "block.A", "block.B")
        )
        self._noise.key = tensors["key"]
        self._blocks, self._in_block = (int(str(state.values[name])) for name in ("blocks", "in_block"))
