"""A uniform sample of a stream of unknown length, in memory of fixed size.

Shapes: N capacity, B batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Column", "Reservoir"]


@dataclass(frozen=True, slots=True)
class Column:
    """A tensor stored for each sample: its shape and type."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class Reservoir:
    """Stores each sample seen with the same probability (Vitter 1985, Random Sampling with a Reservoir).

    The rows, of shape [N, …] per column, are on the CPU; unused rows are zero. Samples can
    expire, the oldest first. Their slots are not simply given to the samples that follow, which would favour
    those: a new sample is paired with an expired one and stored with the probability that the expired one
    was (Gemulla et al. 2006, A Dip in the Reservoir: random pairing). So the stored samples are always a
    uniform sample of those that have not expired.

    Raises ValueError for a capacity below 1.
    """

    def __init__(self, capacity: int, columns: Mapping[str, Column]) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}: it must be 1 or more")
        self._capacity = capacity
        self._rows = {
            name: torch.zeros(capacity, *column.shape, dtype=column.dtype) for name, column in columns.items()
        }
        self._number_N = torch.zeros(capacity, dtype=torch.int64)  # number of samples offered before each
        self._kept = 0
        self._expired = 0  # number of samples that have expired
        self._kept_owed = self._others_owed = 0  # expired samples that are not paired yet
        self.offered = 0
        """Number of samples offered so far."""

    def __len__(self) -> int:
        """Return the number of samples stored."""
        return self._kept

    def offer(self, samples: Mapping[str, Tensor], dice: torch.Generator) -> None:
        """Store copies of some of B samples; ``samples`` maps each column to a tensor of shape [B, …]."""
        before, count = self.offered, len(next(iter(samples.values())))
        chosen: dict[int, int] = {}
        for row, chance in enumerate(torch.rand(count, dtype=torch.float64, generator=dice).tolist()):
            slot = self._slot(chance)
            if slot is not None:
                chosen[slot] = row  # a later row replaces an earlier one
            self.offered += 1
        if chosen:
            slots, rows = list(chosen), list(chosen.values())
            for name, kept in self._rows.items():
                kept[slots] = samples[name][rows].to("cpu")
            self._number_N[slots] = torch.tensor(rows) + before

    def _slot(self, chance: float) -> int | None:
        """Return the slot of the next sample, None if it is not stored; ``chance`` is uniform in [0, 1)."""
        owed = self._kept_owed + self._others_owed
        if owed:
            if chance * owed >= self._kept_owed:
                self._others_owed -= 1
                return None
            self._kept_owed -= 1
        elif self._kept == self._capacity:
            drawn = int(chance * (self.offered - self._expired + 1))
            return drawn if drawn < self._capacity else None
        self._kept += 1
        return self._kept - 1

    def expire(self, before: int) -> int:
        """Delete those of the first ``before`` samples offered; return how many of them were stored.

        Their rows are overwritten.
        """
        expired = max(0, min(before, self.offered) - self._expired)
        staying_N = self._number_N[: self._kept] >= before
        gone = self._kept - int(staying_N.sum())
        self._expired += expired
        self._kept_owed += gone
        self._others_owed += expired - gone
        if gone:
            for rows in (*self._rows.values(), self._number_N):
                staying = rows[: self._kept][staying_N]
                rows.zero_()
                rows[: len(staying)] = staying
                staying.zero_()  # a copy, whose memory would not be overwritten when it is freed
            self._kept -= gone
        return gone

    def draw(self, count: int, dice: torch.Generator) -> dict[str, Tensor]:
        """Return ``count`` stored samples, drawn with replacement; at least one must be stored."""
        row = torch.randint(len(self), (count,), generator=dice)
        return {name: rows[row] for name, rows in self._rows.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return the rows, their numbers and the counts as part of a learner's state."""
        counts = [self.offered, self._kept, self._expired, self._kept_owed, self._others_owed]
        about = {"reservoir.number": self._number_N, "reservoir.counts": torch.tensor(counts)}
        return {f"reservoir.{name}": rows for name, rows in self._rows.items()} | about

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy what `tensors` returned."""
        for name, rows in self._rows.items():
            rows.copy_(tensors[f"reservoir.{name}"])
        self._number_N.copy_(tensors["reservoir.number"])
        counts = tensors["reservoir.counts"].tolist()
        self.offered, self._kept, self._expired, self._kept_owed, self._others_owed = counts
