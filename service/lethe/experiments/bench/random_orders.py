"""The order of a comparison's sides in each of its turns."""

import random
from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ["random_orders"]

Side = TypeVar("Side")


def random_orders(sides: Sequence[Side], seed: int) -> Iterator[list[Side]]:
    """Yield ``sides`` in a random order for each turn, without end.

    A side finds the caches, and whatever else the machine is busy with, as the one before it leaves them. If
    the order only rotated, that would almost always be the same one.
    """
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    while True:
        yield rng.sample(sides, len(sides))
