"""The ridge regression of one regime, with the statistics that recognise its samples.

Shapes: B batch, D features, K classes, S numbers of a thumbnail.
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from lethe.learners.analytic.refresh import RefreshSchedule
from lethe.learners.analytic.sums import Sums
from lethe.learners.analytic.thumbnails import ThumbnailStatistics
from lethe.learners.capabilities import Pool
from lethe.learners.features.choice import FeatureOptions

__all__ = ["Expert", "ExpertsOptions"]


class ExpertsOptions(FeatureOptions):
    """Features, regimes and solution of `Experts`."""

    waves: int = Field(default=4600, ge=0)
    """Number of random Fourier features beside the wavelets; capped for small images and short vectors."""
    penalty: float = Field(default=0.1, gt=0)
    """λ of (A + λI)⁻¹B of each regime: larger is smoother."""
    regimes: int = Field(default=8, ge=1, le=64)
    """Most regimes, which bounds memory; samples of further ones join the likeliest regime."""
    first_refresh: int = Field(default=64, ge=1)
    """Samples of a regime until `learn` first predicts from its solution."""
    refresh_every: int = Field(default=32768, ge=1)
    """Samples of a regime between two solves for the predictions of `learn`; early on, it solves whenever
    their number has grown fourfold."""
    temperature: float = Field(default=0.1, gt=0)
    """Divisor of the scores in the softmaxes."""


class Expert:
    """One regime: its thumbnail statistics, its sums, and W of the last scheduled solve.

    Among several ranks, each has the statistics of all samples of the regime, and sums over its own.
    """

    def __init__(self, sums: Sums, penalty_D: Tensor, options: ExpertsOptions, size: int) -> None:
        """``sums`` are empty, ``penalty_D`` is that of `Sums.ridge`, and ``size`` is S."""
        self.signature = ThumbnailStatistics(size)
        self.sums = sums
        self.W_DK = torch.zeros(sums.B_DK.shape, device=sums.B_DK.device)
        self._penalty_D = penalty_D
        self._schedule = RefreshSchedule(options.first_refresh, options.refresh_every)
        self._pooled = 0  # number of samples at the last pooling
        self.solved: tuple[int, Tensor] = (0, self.W_DK)
        """The number of samples, and the exact W after them."""

    @property
    def samples(self) -> int:
        """Number of samples of the regime."""
        return self.signature.count

    def refresh_due(self) -> bool:
        """Return whether `W_DK` is out of date, and if so schedule the next solve."""
        return self._schedule.passed(self.samples)

    def refresh(self) -> None:
        """Solve for the `W_DK` of all samples so far."""
        self.W_DK = self.exact()

    def pool(self, pool: Pool) -> None:
        """Move the sums of all ranks to the leading one, if the regime has new samples."""
        if not self.pooled:
            self.sums.pool(pool)
            self._pooled = self.samples

    @property
    def pooled(self) -> bool:
        """Whether the leading rank has the sums over all samples of the regime."""
        return self._pooled == self.samples

    def subtract(self, features_BD: Tensor, y_B: Tensor, z_BS: Tensor) -> None:
        """Subtract samples that were added before; what follows from them is computed anew."""
        self.sums.subtract(features_BD, y_B)
        self.signature.add(z_BS, -1)
        self._schedule.shift(self.samples, -len(y_B))
        self.solved = (-1, self.W_DK)
        if self.W_DK.any():  # `learn` predicts from a solution already
            self.W_DK = self.exact()

    def exact(self) -> Tensor:
        """Return W of all samples so far, solving only where that has changed."""
        if self.solved[0] != self.samples:
            self.solved = (self.samples, self.sums.ridge(self._penalty_D))
        return self.solved[1]

    def exact_sums(self) -> dict[str, Tensor]:
        """Return the sums over the samples of the regime, which are whole numbers."""
        return self.sums.tensors() | {"signature": self.signature.sums}

    def tensors(self) -> dict[str, Tensor]:
        """Return the whole state; the tensors are its own."""
        return self.exact_sums() | {
            "W": self.W_DK,
            "counts": torch.tensor([self._schedule.due]),
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy what `tensors` of another expert returned."""
        self.sums.load(tensors)
        self.signature.load(tensors["signature"])
        self.W_DK = tensors["W"].to(self.W_DK.device, copy=True)
        self._schedule.due = int(tensors["counts"])
        self._pooled = self.samples
        self.solved = (-1, self.W_DK)
