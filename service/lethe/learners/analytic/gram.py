"""The Gram matrix A = Σ φφᵀ of whole-number features, exact.

Shapes: B batch, D features.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final, Self

import torch
from torch import Tensor

from lethe.learners.capabilities import Pool
from lethe.learners.features.compression import LARGEST
from lethe.learners.integer_products import product
from lethe.learners.parallel import share

__all__ = ["Gram"]

_PANEL: Final = 512  # rows: a smaller number wastes less below the diagonal, a larger one multiplies faster
_PIECE: Final = 3072  # columns of a panel that one thread multiplies: more pieces cost more than they balance
_CARRY_BITS: Final = 30
_HALF: Final = 1 << (_CARRY_BITS - 1)
_ROOM: Final = (1 << _CARRY_BITS) // LARGEST**2  # samples for which int32 has room after a fold
_BYTE_SAMPLES: Final = _ROOM * 126  # of which no high part exceeds int8
_IN_CACHE: Final = 1 << 17  # entries that one thread folds at once
_AT_ONCE: Final = 1 << 20  # entries that are added up over the ranks at once


class Gram:
    """A symmetric matrix of whole numbers that grows by φφᵀ, stored as panels of its upper triangle.

    Panel p holds the rows of A from 512 p on, from the diagonal rightwards; entries left of the diagonal
    repeat those right of it. Each entry is ``low`` + 2³⁰ ``high``: batches are added to ``low``, int32, and
    every 66,000 samples what is over is carried to ``high`` by `fold`. After a fold, both depend on nothing
    but the entry's value and the number of samples: equal sums are equal bytes, whatever the road to them.
    """

    def __init__(self, features: int, device: torch.device) -> None:
        self._bounds = [*range(0, features, _PANEL), features]
        self._sizes = [(end - start) * (features - start) for start, end in pairwise(self._bounds)]
        self.low = torch.zeros(sum(self._sizes), dtype=torch.int32, device=device)
        """All panels, row by row, one after another."""
        self.high = torch.zeros_like(self.low, dtype=torch.int8)
        """Likewise; int32 from 8 million samples on."""
        self.samples = 0
        self._unfolded = 0  # samples added or subtracted since the last fold

    def add(self, features_BD: Tensor) -> None:
        """Add φᵀφ for φ of shape [B, D], int8 on the device."""
        self._accumulate(features_BD, 1)

    def subtract(self, features_BD: Tensor) -> None:
        """Subtract φᵀφ of φ that was added before."""
        self._accumulate(features_BD, -1)

    def merge(self, other: Self, sign: int = 1) -> None:
        """Add another sum over the same features, or subtract it if ``sign`` is −1."""
        self.fold()
        other.fold()
        self.samples += sign * other.samples
        self.low.add_(other.low, alpha=sign)
        self.high = self.high.to(torch.int32).add_(other.high, alpha=sign)
        self._unfolded = other.samples
        self.fold()

    def pool(self, ranks: Pool) -> None:
        """Add the sums of all other ranks to the leading one's; theirs are undefined afterwards.

        They have what they learned since the last call, which seldom exceeds int32: half as much to move.
        """
        self.fold()
        others = torch.tensor(0 if ranks.leads else self.samples)
        ranks.all_reduce(others)
        self.samples += int(others) if ranks.leads else 0
        self.high = self.high.to(_width(self.samples))
        moved_type = torch.int32 if others <= _ROOM else torch.int64
        pieces = (torch.split(part, _AT_ONCE) for part in (self.low, self.high))
        for low, high in zip(*pieces, strict=True):
            if ranks.leads:
                moved = torch.zeros_like(low, dtype=moved_type)
            else:
                moved = high.to(moved_type).bitwise_left_shift_(_CARRY_BITS).add_(low)
            ranks.all_reduce(moved)
            if ranks.leads:
                moved.add_(low)
                _carry((moved, high))
                low.copy_(moved)

    def clear(self) -> None:
        """Begin anew, without samples."""
        self.low.zero_()
        self.high.zero_()
        self.samples = self._unfolded = 0

    def fold(self) -> None:
        """Carry from ``low`` to ``high``, so that both depend on nothing but the sum."""
        width = _width(self.samples)
        if self._unfolded or self.high.dtype != width:
            wide = self.high.to(torch.int32 if width != self.high.dtype else width)
            pieces = (torch.split(part, _IN_CACHE) for part in (self.low, wide))
            share(_carry, zip(*pieces, strict=True))
            self.high, self._unfolded = wide.to(width), 0

    def load(self, low: Tensor, high: Tensor, samples: int) -> None:
        """Copy the folded sum of ``samples``."""
        self.low.copy_(low)
        self.high = high.to(self.low.device, copy=True)
        self.samples, self._unfolded = samples, 0

    def upper(self) -> Tensor:
        """Return A in float64, of shape [D, D]; entries below the diagonal are undefined."""
        features = self._bounds[-1]
        upper_DD = torch.zeros(features, features, dtype=torch.float64, device=self.low.device)
        self.add_to(upper_DD)
        return upper_DD

    def add_to(self, total_DD: Tensor, weight: float = 1.0) -> None:
        """Add ``weight`` A to ``total_DD``, float64; entries below the diagonal are undefined then."""
        rows = max(1, _IN_CACHE // self._bounds[-1])

        def pieces() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
            for start, low, high in self._panels():
                parts = (total_DD[start : start + len(low), start:], low, high)
                yield from zip(*(torch.split(part, rows) for part in parts), strict=True)

        def add(piece: tuple[Tensor, Tensor, Tensor]) -> None:
            part, low, high = piece
            part.add_(high.to(torch.float64).mul_(1 << _CARRY_BITS).add_(low), alpha=weight)

        share(add, pieces())

    def _accumulate(self, features_BD: Tensor, sign: int) -> None:
        for part in torch.split(features_BD, _ROOM):
            if self._unfolded + len(part) > _ROOM:
                self.fold()
            self._multiply(part, sign)
            self.samples += sign * len(part)
            self._unfolded += len(part)

    def _multiply(self, features_BD: Tensor, sign: int) -> None:
        pieces = (
            (start, start + first, low[:, first : first + _PIECE])
            for start, low, _ in self._panels()
            for first in range(0, low.shape[1], _PIECE)
        )

        def multiply(piece: tuple[int, int, Tensor]) -> None:
            row, column, sum_RE = piece
            rows, columns = sum_RE.shape
            left, right = features_BD[:, row : row + rows], features_BD[:, column : column + columns]
            sum_RE.add_(product(left, right), alpha=sign)

        share(multiply, pieces)

    def _panels(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the first row of each panel, and views of its low and high parts, [rows, columns]."""
        parts = (torch.split(part, self._sizes) for part in (self.low, self.high))
        for start, low, high in zip(self._bounds, *parts, strict=False):
            columns = self._bounds[-1] - start
            yield start, low.view(-1, columns), high.view(-1, columns)


def _width(samples: int) -> torch.dtype:
    """Return the type that holds the high parts of a sum of ``samples``."""
    return torch.int8 if samples <= _BYTE_SAMPLES else torch.int32


def _carry(both: tuple[Tensor, Tensor]) -> None:
    low, high = both
    over = low.add(_HALF).bitwise_right_shift_(_CARRY_BITS)
    high.add_(over)
    low.sub_(over.bitwise_left_shift_(_CARRY_BITS))
