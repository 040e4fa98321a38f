"""Matrix products of numbers rounded to bfloat16, summed in float32: fast where the CPU has a unit for them.

What is multiplied is rounded first, by `rounded`. A product of two such numbers is exact in
float32, so every CPU sums the same terms, and one without such a unit is only slower.

The switch that lets products run on the unit is one for the whole process. Only the thread that
learns may turn it: while it is on, the products of every other thread round what they are given.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor

__all__ = ["beside_learning", "fine_product", "rounded", "unit"]

_HAS_UNIT: Final = any(torch.cpu.get_capabilities().get(unit) for unit in ("amx_bf16", "avx512_bf16"))


class _Thread(threading.local):
    beside_learning = False


_thread: Final = _Thread()


def rounded(x: Tensor) -> Tensor:
    """Return ``x`` as float32, rounded to the 8 significant bits of bfloat16."""
    return x.to(torch.bfloat16).to(torch.float32)


def fine_product(left_MK: Tensor, right_KN: Tensor) -> Tensor:
    """Return the product, float32 of shape [M, N], of float32 matrices that are not rounded.

    It is done in float64, which no switch concerns: this one is the same beside a thread that learns.
    """
    return (left_MK.to(torch.float64) @ right_KN.to(torch.float64)).to(torch.float32)


@contextmanager
def beside_learning() -> Iterator[None]:
    """Leave the switch alone in this thread: another one is learning, and must find it as it left it."""
    before = _thread.beside_learning
    _thread.beside_learning = True
    try:
        yield
    finally:
        _thread.beside_learning = before


@contextmanager
def unit() -> Iterator[None]:
    """Let the float32 products of this process run on the unit: they must be of `rounded` matrices."""
    if not _HAS_UNIT or _thread.beside_learning:
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
