"""Snapshots of a learner's tensors from before a boundary that is detected late."""

from collections.abc import Callable, Mapping
from typing import cast

from torch import Tensor

from lethe.learners.state import JSON, State

__all__ = ["LaggedSnapshots"]


class LaggedSnapshots:
    """The two newest copies of some tensors, taken every ``lag`` samples.

    The older one is ``lag`` to twice ``lag`` samples old, so it precedes a boundary that is detected within
    ``lag`` samples. With a lag of 0, for boundaries that are known in advance, the current tensors are used.
    ``live`` returns the current tensors; their names and shapes do not change.
    """

    def __init__(self, live: Callable[[], Mapping[str, Tensor]], lag: int) -> None:
        self._live, self._lag = live, lag
        self._older = {name: tensor.detach().clone() for name, tensor in live().items()}
        self._newer = {name: tensor.detach().clone() for name, tensor in live().items()}
        self._taken = 0  # copies since the last restart, at most 2
        self._due = 0

    def saw(self, seen: int) -> None:
        """Take a copy when one is due, after ``seen`` samples."""
        if self._lag and seen >= self._due:
            self._older, self._newer = self._newer, self._older
            _copy(self._live(), self._newer)
            self._taken = min(2, self._taken + 1)
            self._due = seen + self._lag

    def before(self) -> Mapping[str, Tensor] | None:
        """Return the tensors as they were before a boundary detected now; None if there are none."""
        if not self._lag:
            return self._live()
        return self._older if self._taken == 2 else None

    def restart(self, seen: int) -> None:
        """Discard the copies, since another regime begins."""
        self._taken, self._due = 0, seen

    def tensors(self) -> dict[str, Tensor]:
        """Return the copies as part of a state."""
        copies = {"older": self._older, "newer": self._newer}
        return {
            f"lagged.{age}.{name}": tensor.contiguous()
            for age, tensors in copies.items()
            for name, tensor in tensors.items()
        }

    def values(self) -> dict[str, JSON]:
        """Return the counts as part of a state."""
        return {"lagged": [self._taken, self._due]}

    def load(self, state: State) -> None:
        """Copy what `tensors` and `values` put into ``state``."""
        for age, own in (("older", self._older), ("newer", self._newer)):
            _copy({name: state.tensors[f"lagged.{age}.{name}"] for name in own}, own)
        self._taken, self._due = cast("list[int]", state.values["lagged"])


def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in target.items():
        tensor.copy_(source[name])
