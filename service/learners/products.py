"""Matrix products of numbers rounded to bfloat16, summed in float32: fast where the CPU has a unit for them.

What is multiplied is rounded first, by `rounded`. A product of two such numbers is exact in
float32, so every CPU sums the same terms, and one without such a unit is only slower.

The switch that lets products run on the unit is one for the whole process. Only the thread that
learns may turn it: while it is on, the products of every other thread round what they are given.
"""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor

__all__ = ["Multiplier", "add_product", "beside_learning", "fine_product", "product", "rounded"]

_HAS_UNIT: Final = any(torch.cpu.get_capabilities().get(unit) for unit in ("amx_bf16", "avx512_bf16"))
_HAS_HALVES: Final = torch.backends.quantized.engine in {"fbgemm", "x86"}
_HALVES_BELOW: Final = 15  # to the power of which 2 is less than the largest number of half precision
_FEW: Final = 16  # rows: with more, a product takes longer than conversions


class _Thread(threading.local):
    beside_learning = False


_thread: Final = _Thread()


def rounded(x: Tensor) -> Tensor:
    """Return ``x`` as float32, rounded to the 8 significant bits of bfloat16."""
    return x.to(torch.bfloat16).to(torch.float32)


def product(left_MK: Tensor, right_KN: Tensor) -> Tensor:
    """Return the product, float32 of shape [M, N], of two `rounded` matrices."""
    with _unit():
        return left_MK @ right_KN


def add_product(sum_MN: Tensor, left_MK: Tensor, right_KN: Tensor) -> None:
    """Add the product of two `rounded` matrices to a float32 one, in place."""
    with _unit():
        sum_MN.addmm_(left_MK, right_KN)


def fine_product(left_MK: Tensor, right_KN: Tensor) -> Tensor:
    """Return the product, float32 of shape [M, N], of float32 matrices that are not rounded.

    It is done in float64, which no switch concerns: this one is the same beside a thread that learns.
    """
    return (left_MK.to(torch.float64) @ right_KN.to(torch.float64)).to(torch.float32)


class Multiplier:
    """A large `rounded` matrix that is kept, and that others are multiplied by.

    A few rows take as long as it takes to read, and while the switch is on, all of it is converted
    each time. So for few rows, beside a thread that learns, there is a copy in half precision, made at
    its first use: half as much to read, and nothing that the switch concerns. It holds exactly what
    bfloat16 can hold, down to 2⁻²⁹ of the largest number, and smaller ones nearly; sums are in float32.
    """

    def __init__(self, right_KN: Tensor) -> None:
        self._right_KN = right_KN
        self._halves: tuple[torch.ScriptObject, float] | None = None

    def __call__(self, left_MK: Tensor) -> Tensor:
        """Return the product, float32 of shape [M, N], of a `rounded` matrix and this one."""
        read_all = len(left_MK) <= _FEW and self._right_KN.numel() > 0
        if not (_thread.beside_learning and _HAS_HALVES and read_all and self._right_KN.is_cpu):
            return product(left_MK, self._right_KN)
        if self._halves is None:
            _, exponent = math.frexp(self._right_KN.abs().max().item())
            scale = 2.0 ** (_HALVES_BELOW - exponent)
            right_NK = (self._right_KN * scale).T.contiguous()
            self._halves = torch.ops.quantized.linear_prepack_fp16(right_NK, None), scale
        halves, scale = self._halves
        scaled_MN: Tensor = torch.ops.quantized.linear_dynamic_fp16(left_MK, halves)
        return scaled_MN.div_(scale)


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
def _unit() -> Iterator[None]:
    """Let the products of this process run on the unit, which rounds what it is given."""
    if not _HAS_UNIT or _thread.beside_learning:
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
