"""A uniform sample of a stream whose length nobody knows, in memory of a fixed size.

Shapes: N capacity, B batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Column", "Reservoir"]


@dataclass(frozen=True, slots=True)
class Column:
    """What is kept of each sample: a tensor of one shape and type."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class Reservoir:
    """Keeps each of the samples so far with the same probability (Vitter 1985, algorithm R).

    The rows, of shape [N, …] for each column, are on the CPU and are zero where nothing was kept
    yet. Raises ValueError for a capacity below 1.
    """

    def __init__(self, capacity: int, columns: Mapping[str, Column]) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}: it must be 1 or more")
        self._capacity = capacity
        self._rows = {
            name: torch.zeros(capacity, *column.shape, dtype=column.dtype) for name, column in columns.items()
        }
        self.offered = 0
        """Samples that were offered so far."""

    def __len__(self) -> int:
        """Return how many are kept."""
        return min(self.offered, self._capacity)

    def offer(self, samples: Mapping[str, Tensor], dice: torch.Generator) -> None:
        """Keep copies of some of B samples; ``samples`` maps each column to a tensor of shape [B, …]."""
        count = len(next(iter(samples.values())))
        before_B = torch.arange(self.offered, self.offered + count)
        drawn_B = (torch.rand(count, dtype=torch.float64, generator=dice) * (before_B + 1)).long()
        slot_B = torch.where(before_B < self._capacity, before_B, drawn_B)
        slot = {
            int(slot_B[row]): row for row in range(count) if slot_B[row] < self._capacity
        }  # the last one wins
        if slot:
            for name, rows in self._rows.items():
                rows[list(slot)] = samples[name][list(slot.values())].to("cpu")
        self.offered += count

    def draw(self, count: int, dice: torch.Generator) -> dict[str, Tensor]:
        """Return ``count`` of the samples kept, with replacement; there must be one."""
        row = torch.randint(len(self), (count,), generator=dice)
        return {name: rows[row] for name, rows in self._rows.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return the rows as part of a learner's state."""
        return {f"reservoir.{name}": rows for name, rows in self._rows.items()}

    def load(self, tensors: Mapping[str, Tensor], offered: int) -> None:
        """Copy the rows that `tensors` returned."""
        for name, rows in self._rows.items():
            rows.copy_(tensors[f"reservoir.{name}"])
        self.offered = offered
