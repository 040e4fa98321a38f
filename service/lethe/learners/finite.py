"""Checks that a learner's state is finite before it is checkpointed, served or scored."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from lethe.errors import DivergedLoss
from lethe.learners.base import Learner
from lethe.learners.state import State

__all__ = ["FiniteCheck", "abbreviated", "not_finite"]

NAMED: Final = 3
"""Number of tensors that an error names."""


class FiniteCheck:
    """Checks the state of ``learner``, which is new or known to be finite.

    A learner rejects a batch whose loss is not finite, but a step after a finite loss can still overflow.
    Tensors that are not finite at construction, such as a network's mask of minus infinities, are exempt.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._allowed = frozenset(not_finite(learner.state().tensors))
        self._marks: dict[str, object] = {}

    def offenders(self, *, predicting: bool = False) -> list[str]:
        """Return the names of the tensors that hold a NaN or an infinity.

        ``predicting`` checks only the tensors that predictions come from, if they are separate
        (`State.solved`): the sums of a learner that solves are a hundred times as large.
        """
        state = self._learner.state()
        if predicting and state.solved:
            return self._of(state.solved)
        unmarked = {name: tensor for name, tensor in state.tensors.items() if not self._known(name, state)}
        found = self._of(unmarked)
        self._marks = {name: mark for name, mark in state.marks.items() if name not in found}
        return found

    def require(self, *, predicting: bool = False) -> None:
        """Raise DivergedLoss if the state, or what predictions come from, is not finite."""
        found = self.offenders(predicting=predicting)
        if found:
            raise DivergedLoss(f"the last step left tensors that are not finite: {abbreviated(found)}")

    def offenders_of(self, state: State) -> list[str]:
        """Return the names of such tensors in a state of the learner, or of another one of its class."""
        return self._of(state.tensors)

    def _known(self, name: str, state: State) -> bool:
        """Return whether a tensor was found finite before and has not changed since."""
        return name in state.marks and self._marks.get(name) is state.marks[name]

    def _of(self, tensors: Mapping[str, Tensor]) -> list[str]:
        return [name for name in not_finite(tensors) if name not in self._allowed]


def abbreviated(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that hold a NaN or an infinity."""
    with torch.no_grad():
        return [name for name, tensor in tensors.items() if not _is_finite(tensor)]


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point():
        return True
    # a sum reads each number once and writes none; it may overflow although each of them is finite
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())
