"""The state of a learner, as checkpoints hold it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from safetensors.torch import load, save
from torch import Tensor

__all__ = ["JSON", "State"]

_END: Final = b"\n"  # no JSON on one line has it

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

    def to_bytes(self) -> bytes:
        """Return ``tensors`` and ``values`` as bytes, the same for equal states."""
        tensors = {name: tensor.clone().contiguous() for name, tensor in self.tensors.items()}
        values = json.dumps(dict(self.values), allow_nan=False, sort_keys=True)
        return values.encode() + _END + save(tensors)

    @classmethod
    def from_bytes(cls, given: bytes) -> Self:
        """Return the state of which `to_bytes` returned ``given``."""
        values, _, tensors = given.partition(_END)
        return cls(load(tensors), json.loads(values))
