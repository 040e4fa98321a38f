"""Copies of a learner's state, for the thread that writes them while the learner goes on."""

from torch import Tensor

from service.learners.base import State

__all__ = ["Copies"]


class Copies:
    """Copies states of one learner; what has kept its mark since the last one is not copied again.

    So one copy of what is marked is held between two checkpoints, too.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[object, Tensor]] = {}

    def of(self, state: State) -> State:
        """Return a copy that never changes."""
        copied = {name: self._copy(name, tensor, state) for name, tensor in state.tensors.items()}
        self._last = {name: (mark, copied[name]) for name, mark in state.marks.items()}
        return State(copied, state.values, state.solved, state.marks)

    def _copy(self, name: str, tensor: Tensor, state: State) -> Tensor:
        mark, last = self._last.get(name, (None, tensor))
        if mark is not None and mark is state.marks.get(name):
            return last
        return tensor.detach().clone()
