"""Exact products of int8 matrices, by whichever unit of the machine is fastest.

All units return the same numbers. Factors of up to 8 bits are exact in int8, bfloat16, TF32 and float32. A
float32 sum of up to 1,040 of their products stays below 2²⁴, so nothing is rounded, in any order.

Shapes: B rows over which is summed, M and N columns.
"""

import time
from collections.abc import Callable, Mapping
from functools import cache
from statistics import median
from typing import Final

import torch
from torch import Tensor

__all__ = ["UNITS", "Unit", "fastest_unit", "product"]

Unit = Callable[[Tensor, Tensor], Tensor]
"""Returns LᵀR, int32 of shape [M, N], of L and R, int8 of shapes [B, M] and [B, N]."""
_EXACT_ROWS: Final = 1040
"""127² · 1,040 < 2²⁴."""
_TRIAL: Final = (512, 512, 1024)  # B, M and N of the trial
_TURNS: Final = 5


def _by_int8(left_BM: Tensor, right_BN: Tensor) -> Tensor:
    return torch._int_mm(left_BM.T, right_BN)


def _by_float32(left_BM: Tensor, right_BN: Tensor) -> Tensor:
    total = torch.zeros(left_BM.shape[1], right_BN.shape[1], dtype=torch.int32, device=left_BM.device)
    for left, right in zip(
        torch.split(left_BM, _EXACT_ROWS), torch.split(right_BN, _EXACT_ROWS), strict=True
    ):
        total += (left.T.to(torch.float32) @ right.to(torch.float32)).to(torch.int32)
    return total


UNITS: Final[Mapping[str, Unit]] = {"int8": _by_int8, "float32": _by_float32}
"""By name: the units that a machine may have."""


def product(left_BM: Tensor, right_BN: Tensor) -> Tensor:
    """Return LᵀR by the fastest unit: int32 of shape [M, N], for int8 of shapes [B, M] and [B, N].

    B is at most 130,000, beyond which a sum may exceed int32.
    """
    return UNITS[fastest_unit(left_BM.device)](left_BM, right_BN)


@cache
def fastest_unit(device: torch.device) -> str:
    """Return the name of the unit that is fastest on ``device``, after a trial of some milliseconds.

    A unit that rounds is not used: int8 products on CPUs without VNNI add pairs in int16, which saturates.
    On a GPU float32 is used, since int8 products there take certain shapes only.
    """
    if device.type != "cpu":
        return "float32"
    rows, left, right = _TRIAL
    left_BM = torch.full((rows, left), 127, dtype=torch.int8)
    right_BN = torch.full((rows, right), 127, dtype=torch.int8)
    right_BN[:, ::2] = -128
    sums_N = rows * 127 * right_BN[0].to(torch.int32)
    exact = [name for name, unit in UNITS.items() if torch.equal(unit(left_BM, right_BN)[0], sums_N)]
    took: dict[str, list[float]] = {name: [] for name in exact}
    for _ in range(_TURNS):
        for name in exact:  # in turns, so that other work on the machine affects all
            start = time.perf_counter()
            UNITS[name](left_BM, right_BN)
            took[name].append(time.perf_counter() - start)
    return min(took, key=lambda name: median(took[name]))
