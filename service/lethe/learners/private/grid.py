"""The integer grid on which private sums and their noise are exact.

Shapes: B batch, D numbers of a sample.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Self

from torch import Tensor

from lethe.errors import InvalidSetting

__all__ = ["Grid", "round_to_grid"]

_FINEST: Final = 25
"""Largest log₂ σ: with it, the rounding of a sum to the grid is negligible beside the noise."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The resolution of the grid: both numbers count its units, and σ is 2 ** sigma_bits."""

    sigma_bits: int
    reach: int
    """Largest Euclidean norm of one record's vector."""

    @classmethod
    def of(cls, deviation: float, moved_squared: Fraction, most: int) -> Self:
        """Return the finest grid with a reach of at most ``most``.

        One record in place of another moves a sum by √moved_squared reaches at most, and σ is at least
        ``deviation`` times that; this is computed in fractions, and so holds exactly. Raises
        InvalidSetting for a deviation that leaves no unit for a record.
        """
        per_reach = Fraction(deviation) ** 2 * moved_squared  # σ² ≥ per_reach · reach²
        for sigma_bits in range(_FINEST, -1, -1):
            reach = math.isqrt(math.floor(Fraction(4**sigma_bits) / per_reach))
            if reach <= most or sigma_bits == 0:
                break
        if reach < 1:
            raise InvalidSetting(
                f"learner.options.noise_multiplier: noise of {deviation:g} times what a record changes is "
                "too much; choose a larger epsilon or fewer appearances"
            )
        return cls(sigma_bits, min(reach, most))

    @property
    def variance_bits(self) -> int:
        """v of σ² = 2ᵛ."""
        return 2 * self.sigma_bits


def round_to_grid(x_BD: Tensor, squared_B: Tensor) -> Tensor:
    """Return ``x_BD`` as whole numbers, no row longer than the square root of its number in ``squared_B``.

    A row is rounded to nearest, or towards zero where that is too long; it becomes zero where that is too
    long, too. Both arguments are float64, the squares whole numbers below 2⁵³, so that the comparison is
    exact.
    """
    squared_B1 = squared_B.unsqueeze(1)
    whole_BD = x_BD.round()
    for shorter_BD in (x_BD.trunc(), x_BD.new_zeros(1, 1)):
        too_long_B1 = whole_BD.square().sum(1, keepdim=True) > squared_B1
        whole_BD = shorter_BD.where(too_long_B1, whole_BD)
    return whole_BD
