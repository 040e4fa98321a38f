"""One regime's ridge: what is kept of its samples, and how it is solved.

Shapes: B batch, D features, K classes, S thumbnail pixels.
"""

import torch
from pydantic import Field
from torch import Tensor

from service.learners.gram import Gram
from service.learners.options import Options
from service.learners.refresh import until_refresh
from service.learners.signature import Signature

__all__ = ["Expert", "ExpertsOptions"]


class ExpertsOptions(Options):
    """How `Experts` sees and solves."""

    waves: int = Field(default=4600, ge=0)
    """Random Fourier features beside the wavelets: most of D, fewer for small images."""
    penalty: float = Field(default=0.1, gt=0)
    """λ of a regime's (A + λI)⁻¹B: larger is smoother."""
    regimes: int = Field(default=8, ge=1, le=64)
    """The most that are told apart, which bounds the memory; then a new one joins the likeliest."""
    first_refresh: int = Field(default=64, ge=1)
    """Samples of a regime until learning predicts from what it learned of it."""
    refresh_every: int = Field(default=32768, ge=1)
    """Samples of a regime between two solves for learning's own predictions; early on, whenever there
    are four times as many."""
    temperature: float = Field(default=0.1, gt=0)
    """Probabilities are softmaxes of scores over this."""


class Expert:
    """What is kept of one regime: its signature, A = Σ φφᵀ, B = Σ φyᵀ, and W of the last due solve."""

    def __init__(self, features: int, classes: int, options: ExpertsOptions, device: torch.device) -> None:
        self.signature = Signature()
        self.gram = Gram(features, device)
        self.B_DK = torch.zeros(features, classes, device=device)
        self.W_DK = torch.zeros_like(self.B_DK)
        self.mark = object()
        """Another one whenever something of this has changed."""
        self.seen, self.due = 0, options.first_refresh
        self._options = options
        self.solved: tuple[int, Tensor] = (0, self.W_DK)
        """The exact W, and after how many samples it was that."""

    def add(self, features_BD: Tensor, onehot_BK: Tensor, z_BS: Tensor) -> None:
        """Take in samples of the regime, with their thumbnails; solve when that is due."""
        self.gram.add(features_BD)
        self.B_DK.addmm_(features_BD.T, onehot_BK)
        self.signature.add(z_BS)
        self.mark = object()
        self.seen += len(features_BD)
        if self.seen >= self.due:
            self.W_DK = self.exact()
            self.due = self.seen + until_refresh(self.seen, self._options.refresh_every)

    def exact(self) -> Tensor:
        """Return W of all samples so far, solving only when there are new ones."""
        if self.solved[0] != self.seen:
            self.solved = (self.seen, self.gram.solve(self.B_DK, self._options.penalty))
        return self.solved[1]

    def tensors(self) -> dict[str, Tensor]:
        """Return all that it needs to go on, which are its own tensors."""
        counts = torch.tensor([self.seen, self.due, self.gram.unfolded])
        return {
            "A": self.gram.folded,
            "A_recent": self.gram.recent,
            "B": self.B_DK,
            "W": self.W_DK,
            "signature": self.signature.sums,
            "counts": counts,
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Copy what `tensors` of another one returned."""
        self.gram.folded.copy_(tensors["A"])
        self.gram.recent.copy_(tensors["A_recent"])
        self.B_DK.copy_(tensors["B"])
        self.W_DK = tensors["W"].to(self.B_DK.device, copy=True)
        self.seen, self.due, self.gram.unfolded = tensors["counts"].tolist()
        self.signature.load(tensors["signature"], self.seen)
        self.mark = object()
        self.solved = (-1, self.W_DK)
