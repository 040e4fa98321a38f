"""What a learner can do that takes a sample back exactly, as if it had never been learned."""

from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["Unlearns"]


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
