"""What a learner can do that takes a sample back exactly, as if it had never been learned.

Shapes: B samples, C channels, H height, W width, D features, K classes.
"""

from typing import Final, Protocol, runtime_checkable

import torch
from torch import Tensor

from service.errors import NeverLearned
from service.learners.features import WaveletFeatures
from service.learners.gram import Gram

__all__ = ["Unlearns", "check_counts", "check_leverage", "features_as_learned"]

_LEVERAGE_ROUNDS: Final = 0.01  # how far rounding may take a leverage beyond 1; a stranger's is far beyond


@runtime_checkable
class Unlearns(Protocol):
    """A learner whose state is a function of sums over samples, so that one can be subtracted again."""

    def unlearn(self, x_BCHW: Tensor, y_B: Tensor, batch: int) -> None:
        """Forget samples that were learned: afterwards the state is that of never having seen them.

        ``x_BCHW`` is uint8, ``y_B`` int64, as for ``learn``; ``batch`` is how many were learned at
        once, because a product rounds otherwise in a product of another size. Raises NeverLearned,
        before anything changes, where the state shows that these samples cannot all be in it; that it
        does not show so is no proof that they are.
        """


def features_as_learned(features: WaveletFeatures, x_BCHW: Tensor, batch: int) -> Tensor:
    """Return features of shape [B, D], the same to the last bit as in batches of that size."""
    blank = x_BCHW.new_zeros(-len(x_BCHW) % batch, *x_BCHW.shape[1:])
    batches = torch.split(torch.cat((x_BCHW, blank)), batch)
    return torch.cat([features(x) for x in batches])[: len(x_BCHW)]


def check_counts(asked_K: Tensor, learned_K: Tensor) -> None:
    """Raise NeverLearned where more samples of a class are to be forgotten than were learned."""
    for label in (asked_K > learned_K).nonzero().flatten().tolist():
        raise NeverLearned(
            f"{int(asked_K[label])} samples of class {label} are to be forgotten, "
            f"{int(learned_K[label])} were learned"
        )


def check_leverage(features_BD: Tensor, gram: Gram, penalty: float) -> None:
    """Raise NeverLearned when a sample has a leverage φᵀ(A + λI)⁻¹φ above 1, which none in A has.

    So a sample that was never learned is refused while A has few, and may pass once A spans all
    features.
    """
    solved_DB = gram.solve(features_BD.T, penalty)
    left_BB = torch.eye(len(features_BD), device=solved_DB.device) - features_BD @ solved_DB
    if torch.linalg.eigvalsh(left_BB).min().item() < -_LEVERAGE_ROUNDS:
        count = len(features_BD)
        raise NeverLearned(f"not all {count} samples can be in the sums: their leverage is above 1")
