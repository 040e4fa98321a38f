"""Tables of the logarithm and the cosine, so that both are whole numbers and the same on every machine.

Each entry is a float64 result rounded to a whole number. Mathematical libraries differ in the last bits of
such results only, and no entry is that close to a half: a test shows it.
"""

import math
from collections.abc import Iterator
from typing import Final

__all__ = ["COMPRESSION", "COSINE_BITS", "LARGEST", "cosines", "logarithms"]

LARGEST: Final = 127
"""The unit of features: int8 holds it with both signs."""
COSINE_BITS: Final = 12
"""Bits of an angle that select an entry of the table."""
COMPRESSION: Final = 10.0
"""Of log(1 + 10 s), so that faint strokes count beside bright ones."""


def logarithms(levels: int, brightest: float, unit: float) -> Iterator[float]:
    """Yield log(1 + 10 s) / log 11 in units, for s from 0 to ``brightest`` in so many levels and one."""
    for level in range(levels + 1):
        yield unit * math.log1p(COMPRESSION * brightest * level / levels) / math.log1p(COMPRESSION)


def cosines() -> Iterator[float]:
    """Yield cosines in units of `LARGEST`, of angles from −π in 2 ** COSINE_BITS equal steps."""
    steps = 1 << COSINE_BITS
    for step in range(steps):
        yield LARGEST * math.cos(2 * math.pi * (step / steps - 0.5))
