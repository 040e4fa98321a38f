"""Snapshots of a learner's state, to be written in the background while learning continues."""

from torch import Tensor

from lethe.learners.state import State

__all__ = ["StateSnapshots"]


class StateSnapshots:
    """Takes snapshots of one learner's state; a tensor whose mark is unchanged since the last one is reused.

    One copy of each marked tensor therefore stays in memory between two checkpoints.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[object, Tensor]] = {}

    def take(self, state: State) -> State:
        """Return a copy that later learning does not change."""
        copied = {name: self._copy(name, tensor, state) for name, tensor in state.tensors.items()}
        self._last = {name: (mark, copied[name]) for name, mark in state.marks.items()}
        return State(copied, state.values, state.solved, state.marks)

    def _copy(self, name: str, tensor: Tensor, state: State) -> Tensor:
        mark, last = self._last.get(name, (None, tensor))
        if mark is not None and mark is state.marks.get(name):
            return last
        return tensor.detach().clone()
