"""The state of a learner, as checkpoints hold it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["JSON", "State"]

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]


@dataclass(frozen=True, slots=True)
class State:
    """Everything a learner needs to continue bit-identically: tensors and plain JSON values.

    ``solved`` and ``marks`` only save time and are not part of what states are compared by.
    """

    tensors: Mapping[str, Tensor]
    values: Mapping[str, JSON]
    solved: Mapping[str, Tensor] = field(default_factory=dict)
    """Derived from ``tensors`` and slow to compute again; never written to in place."""
    marks: Mapping[str, object] = field(default_factory=dict)
    """For tensors that rarely change: as long as the mark is the same object, the tensor is bit-identical."""
