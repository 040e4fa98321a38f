"""Square roots: correctly rounded, whatever library or instruction takes them."""

from collections.abc import Callable
from math import isqrt

import pytest
import torch
from torch import Tensor

from lethe.learners.features.square_roots import square_roots, square_roots_

LENGTH = 20_000


def is_nearest(root: int, square: int) -> bool:
    """Return whether no whole number is closer to the square root of ``square`` than ``root``."""
    below = isqrt(square)
    return root == below + (square > below * (below + 1))


@pytest.mark.parametrize("roots", [square_roots, square_roots_])
@pytest.mark.parametrize("exponent", [-149, -140, -30, -1, 0, 7, 103])
def test_roots_are_the_nearest_float32_numbers(roots: Callable[[Tensor], Tensor], exponent: int) -> None:
    whole = torch.randint(1 << 23, 1 << 24, (LENGTH,), generator=torch.Generator().manual_seed(exponent))
    taken = roots(torch.ldexp(whole.float(), torch.tensor(exponent))).double()
    shift = 24 - exponent % 2  # makes the exponent of the root whole, and the root one of 24 bits
    scaled = torch.ldexp(taken, torch.tensor((shift - exponent) // 2)).long().tolist()
    assert all(is_nearest(root, number << shift) for root, number in zip(scaled, whole.tolist(), strict=True))


def test_roots_are_taken_in_place() -> None:
    x = torch.tensor([[0.0, 4.0], [9.0, 2.0]]).T
    assert square_roots_(x) is x
    assert x.tolist() == [[0.0, 3.0], [2.0, torch.tensor(2.0).double().sqrt().float().item()]]
