"""The Gram matrix A = Σ φφᵀ of whole-number features, exact.

Shapes: B batch, D features.
"""

from collections.abc import Iterable, Iterator
from functools import partial
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
_ALONE: Final = (1 << 31) // LARGEST**2  # samples of which int32 holds any sum
_CARRY_BITS: Final = 30
_ROOM: Final = (1 << _CARRY_BITS) // LARGEST**2  # samples for which int32 has room after a carry
_BYTE_SAMPLES: Final = _ROOM * 126  # of which no high part exceeds int8
_IN_CACHE: Final = 1 << 17  # entries that one thread folds at once
_AT_ONCE: Final = 1 << 20  # entries that are added up over the ranks at once


class Gram:
    """A symmetric matrix of whole numbers that grows by φφᵀ, stored as panels of its upper triangle.

    Panel p holds the rows of A from 512 p on, from the diagonal rightwards; entries left of the diagonal
    repeat those right of it. Batches are added to ``low``, int32, which holds any sum of 133,144 samples. Of
    more samples, each entry is ``low`` + 2³⁰ ``high``: every 66,000 samples what is over is carried to
    ``high``. After `fold`, both depend on nothing but the entry's value and the number of samples: equal sums
    are equal bytes, whatever the road to them.
    """

    def __init__(self, features: int, device: torch.device) -> None:
        self._bounds = [*range(0, features, _PANEL), features]
        self._sizes = [(end - start) * (features - start) for start, end in pairwise(self._bounds)]
        self.low = torch.zeros(sum(self._sizes), dtype=torch.int32, device=device)
        """All panels, row by row, one after another."""
        self.high = self._nothing()
        """Likewise, int8; empty up to 133,144 samples; int32 from 8 million on."""
        self.samples = 0
        self._unfolded = 0  # samples of which ``low`` may hold the sum, beyond what a carry leaves

    def add(self, features_BD: Tensor) -> None:
        """Add φᵀφ for φ of shape [B, D], int8 on the device."""
        self._accumulate(features_BD, 1)

    def subtract(self, features_BD: Tensor) -> None:
        """Subtract φᵀφ of φ that was added before."""
        self._accumulate(features_BD, -1)

    def merge(self, other: Self, sign: int = 1) -> None:
        """Add another sum over the same features, or subtract it if ``sign`` is −1."""
        other.fold()
        self.samples += sign * other.samples
        self._add(entries.mul_(sign) for entries in other._entries(torch.int64))

    def pool(self, ranks: Pool) -> None:
        """Add the sums of all other ranks to the leading one's; theirs are undefined afterwards.

        They have what they learned since the last call, which seldom exceeds int32: half as much to move.
        """
        self.fold()
        others = torch.tensor(0 if ranks.leads else self.samples)
        ranks.all_reduce(others)
        moved_type = torch.int32 if others <= _ALONE else torch.int64
        if not ranks.leads:
            for entries in self._entries(moved_type):
                ranks.all_reduce(entries)
            return
        self.samples += int(others)

        def moved() -> Iterator[Tensor]:
            for low in torch.split(self.low, _AT_ONCE):
                total = torch.zeros_like(low, dtype=moved_type)
                ranks.all_reduce(total)
                yield total

        self._add(moved())

    def clear(self) -> None:
        """Begin anew, without samples."""
        self.low.zero_()
        self.high = self._nothing()
        self.samples = self._unfolded = 0

    def fold(self) -> None:
        """Bring ``low`` and ``high`` into the form that depends on nothing but the sum."""
        width = _width(self.samples)
        if self.samples <= _ALONE:
            if len(self.high):
                self.low.add_(self.high.to(torch.int32).bitwise_left_shift_(_CARRY_BITS))  # may wrap twice
                self.high = self._nothing()
            self._unfolded = self.samples
        elif self._unfolded or self.high.dtype != width:
            self._carry(width)

    def load(self, low: Tensor, high: Tensor, samples: int) -> None:
        """Copy a sum of ``samples``."""
        self.low.copy_(low)
        self.high = high.to(self.low.device, copy=True)
        self.samples, self._unfolded = samples, 0 if len(high) else samples
        self.fold()

    def upper(self) -> Tensor:
        """Return A in float64, of shape [D, D]; entries below the diagonal are undefined."""
        features = self._bounds[-1]
        upper_DD = torch.zeros(features, features, dtype=torch.float64, device=self.low.device)
        self.add_to(upper_DD)
        return upper_DD

    def add_to(self, total_DD: Tensor, weight: float = 1.0) -> None:
        """Add ``weight`` A to ``total_DD``, float64; entries below the diagonal are undefined then."""
        rows = max(1, _IN_CACHE // self._bounds[-1])

        def pieces(part: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
            for start, panel in self._panels(part):
                both = (total_DD[start : start + len(panel), start:], panel)
                yield from zip(*(torch.split(entries, rows) for entries in both), strict=True)

        for part, unit in ((self.low, 1), (self.high, 1 << _CARRY_BITS)):
            if len(part):
                share(partial(_add_scaled, weight * unit), pieces(part))

    def _nothing(self) -> Tensor:
        return torch.empty(0, dtype=torch.int8, device=self.low.device)

    def _accumulate(self, features_BD: Tensor, sign: int) -> None:
        for part in torch.split(features_BD, _ROOM):
            if self._unfolded + len(part) > (_ROOM if len(self.high) else _ALONE):
                self._carry(_width(self.samples))
            self._multiply(part, sign)
            self.samples += sign * len(part)
            self._unfolded += len(part)

    def _carry(self, width: torch.dtype) -> None:
        """Carry what is over from ``low`` to ``high``, which is of that type then."""
        high = self.high if len(self.high) else torch.zeros_like(self.low, dtype=width)
        wide = high.to(torch.int32 if width != high.dtype else width)
        pieces = (torch.split(part, _IN_CACHE) for part in (self.low, wide))
        share(_carry, zip(*pieces, strict=True))
        self.high, self._unfolded = wide.to(width), 0

    def _entries(self, dtype: torch.dtype) -> Iterator[Tensor]:
        """Yield copies of the entries, some at once; ``dtype`` must hold them."""
        for index, low in enumerate(torch.split(self.low, _AT_ONCE)):
            entries = low.to(dtype, copy=True)
            if len(self.high):
                high = self.high.narrow(0, index * _AT_ONCE, len(low))
                entries.add_(high.to(dtype).bitwise_left_shift_(_CARRY_BITS))
            yield entries

    def _add(self, added: Iterable[Tensor]) -> None:
        """Add entries, as many at once as `_entries` yields; `samples` counts them already."""
        if self.samples <= _ALONE and not len(self.high):
            for low, entries in zip(torch.split(self.low, _AT_ONCE), added, strict=True):
                low.add_(entries)
        else:
            self._carry(torch.int32)
            pieces = (torch.split(part, _AT_ONCE) for part in (self.low, self.high))
            for low, high, entries in zip(*pieces, added, strict=True):
                total = entries.to(torch.int64).add_(low)
                _carry((total, high))
                low.copy_(total)
        self.fold()

    def _multiply(self, features_BD: Tensor, sign: int) -> None:
        pieces = (
            (start, start + first, low[:, first : first + _PIECE])
            for start, low in self._panels(self.low)
            for first in range(0, low.shape[1], _PIECE)
        )

        def multiply(piece: tuple[int, int, Tensor]) -> None:
            row, column, sum_RE = piece
            rows, columns = sum_RE.shape
            left, right = features_BD[:, row : row + rows], features_BD[:, column : column + columns]
            sum_RE.add_(product(left, right), alpha=sign)

        share(multiply, pieces)

    def _panels(self, part: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield the first row of each panel, and a view of its entries in ``part``, [rows, columns]."""
        for start, panel in zip(self._bounds, torch.split(part, self._sizes), strict=False):
            yield start, panel.view(-1, self._bounds[-1] - start)


def _width(samples: int) -> torch.dtype:
    """Return the type that holds the high parts of a sum of ``samples``."""
    return torch.int8 if samples <= _BYTE_SAMPLES else torch.int32


def _add_scaled(factor: float, both: tuple[Tensor, Tensor]) -> None:
    total, entries = both
    total.add_(entries.to(torch.float64), alpha=factor)


def _carry(both: tuple[Tensor, Tensor]) -> None:
    low, high = both
    # rounded to the nearest: half of a carry is not added first, which could exceed the type
    over = low.bitwise_right_shift(_CARRY_BITS - 1).add_(1).bitwise_right_shift_(1)
    high.add_(over)
    low.sub_(over.bitwise_left_shift_(_CARRY_BITS))
