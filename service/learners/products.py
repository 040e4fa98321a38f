"""Matrix products of numbers rounded to bfloat16, summed in float32: fast where the CPU has a unit for them.

What is multiplied is rounded first, by `rounded`. A product of two such numbers is exact in
float32, so every CPU sums the same terms, and one without such a unit is only slower.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor

__all__ = ["add_product", "product", "rounded"]

_HAS_UNIT: Final = any(torch.cpu.get_capabilities().get(unit) for unit in ("amx_bf16", "avx512_bf16"))
_FEW: Final = 64
"""Rows of which a product is as fast without the unit: it takes reading the other matrix. So the prediction
of a single image waits for nobody, while another thread learns."""
_UNIT: Final = threading.Lock()  # the switch below is one for the whole process


def rounded(x: Tensor) -> Tensor:
    """Return ``x`` as float32, rounded to the 8 significant bits of bfloat16."""
    return x.to(torch.bfloat16).to(torch.float32)


def product(left_MK: Tensor, right_KN: Tensor) -> Tensor:
    """Return the product, float32 of shape [M, N], of two `rounded` matrices."""
    if len(left_MK) <= _FEW:
        return left_MK @ right_KN
    with _unit():
        return left_MK @ right_KN


def add_product(sum_MN: Tensor, left_MK: Tensor, right_KN: Tensor) -> None:
    """Add the product of two `rounded` matrices to a float32 one, in place."""
    with _unit():
        sum_MN.addmm_(left_MK, right_KN)


@contextmanager
def _unit() -> Iterator[None]:
    """Let the products of this process run on the unit, which rounds what it is given."""
    with _UNIT:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium" if _HAS_UNIT else before)
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
