"""A learner's memory of how it was a while ago: a boundary is noticed only after it was crossed."""

from collections.abc import Mapping
from typing import cast

from torch import Tensor

from service.learners.base import JSON, State

__all__ = ["Lagged"]


class Lagged:
    """Copies of some tensors, taken every ``lag`` samples; the two newest are kept.

    The older of them is ``lag`` to twice ``lag`` samples old, so it stems from before a boundary
    that is noticed within ``lag`` samples. With a lag of 0, for boundaries that are told, it is
    always the present. The tensors must not be replaced, only written to.
    """

    def __init__(self, tensors: Mapping[str, Tensor], lag: int) -> None:
        self._live, self._lag = tensors, lag
        self._older = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        self._newer = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        self._taken = 0  # of the copies since the last restart, 2 at the most
        self._due = 0

    def saw(self, seen: int) -> None:
        """Take a copy when one is due; ``seen`` is the number of samples so far."""
        if self._lag and seen >= self._due:
            self._older, self._newer = self._newer, self._older
            _copy(self._live, self._newer)
            self._taken = min(2, self._taken + 1)
            self._due = seen + self._lag

    def before(self) -> Mapping[str, Tensor] | None:
        """Return the tensors as they were before a boundary noticed now; None if there were none yet."""
        if not self._lag:
            return self._live
        return self._older if self._taken == 2 else None

    def restart(self, seen: int) -> None:
        """Forget the copies: what follows belongs to another regime."""
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
        """Take over what `tensors` and `values` gave to ``state``."""
        for age, own in (("older", self._older), ("newer", self._newer)):
            _copy({name: state.tensors[f"lagged.{age}.{name}"] for name in own}, own)
        self._taken, self._due = cast("list[int]", state.values["lagged"])


def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in target.items():
        tensor.copy_(source[name])
