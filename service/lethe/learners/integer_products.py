"""Exact products of int8 matrices, by whichever unit of the machine is fastest.

All units return the same numbers. Factors of up to 8 bits are exact in int8, bfloat16, TF32 and float32. A
float32 sum of up to 1,040 of their products stays below 2²⁴, so nothing is rounded, in any order.

Shapes: B rows over which is summed, M and N columns.
"""

import time
from collections.abc import Callable, Iterable, Mapping
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
_COLUMNS: Final = 2048  # of the right factor that are in float32 at a time
_TRIALS: Final = ((128, 256, 512), (512, 512, 1024))  # B, M and N, the smaller one first
_TURNS: Final = 5
_HOPELESS: Final = 4  # times as slow as the fastest unit: not tried any further


def _by_int8(left_BM: Tensor, right_BN: Tensor) -> Tensor:
    return torch._int_mm(left_BM.T, right_BN)


def _by_float32(left_BM: Tensor, right_BN: Tensor) -> Tensor:
    chunks = zip(torch.split(left_BM, _EXACT_ROWS), torch.split(right_BN, _EXACT_ROWS), strict=True)
    total_MN = _whole_product(*next(chunks))
    for left, right in chunks:
        total_MN += _whole_product(left, right)
    return total_MN


def _whole_product(left_BM: Tensor, right_BN: Tensor) -> Tensor:
    """Return the product of at most 1,040 rows.

    No second array is as large as the product: glibc would return its memory to the system after each call.
    """
    left = left_BM.T.to(torch.float32)
    product_MN = torch.empty(left_BM.shape[1], right_BN.shape[1], device=left.device)
    for right, piece in zip(
        torch.split(right_BN, _COLUMNS, 1), torch.split(product_MN, _COLUMNS, 1), strict=True
    ):
        torch.mm(left, right.to(torch.float32), out=piece)
    return product_MN.view(torch.int32).copy_(product_MN)


UNITS: Final[Mapping[str, Unit]] = {"int8": _by_int8, "float32": _by_float32}
"""By name: the units that a machine may have."""


def product(left_BM: Tensor, right_BN: Tensor) -> Tensor:
    """Return LᵀR by the fastest unit: int32 of shape [M, N], for int8 of shapes [B, M] and [B, N].

    B is at most 130,000, beyond which a sum may exceed int32.
    """
    return UNITS[fastest_unit(left_BM.device)](left_BM, right_BN)


@cache
def fastest_unit(device: torch.device) -> str:
    """Return the name of the unit that is fastest on ``device``, after a trial of each.

    A unit that rounds is not used: int8 products on CPUs without VNNI add pairs in int16, which saturates.
    On a GPU float32 is used, since int8 products there take certain shapes only.
    """
    if device.type != "cpu":
        return "float32"
    names = list(UNITS)
    for trial in _TRIALS:  # without VNNI, int8 products may be so slow that a long trial takes seconds
        seconds = _seconds(names, *trial)
        limit = _HOPELESS * min(seconds.values())
        names = [name for name in sorted(seconds, key=seconds.__getitem__) if seconds[name] <= limit]
    return names[0]


def _seconds(names: Iterable[str], rows: int, left: int, right: int) -> dict[str, float]:
    """Return the time that a product of this size takes, by each of these units that does not round."""
    left_BM = torch.full((rows, left), 127, dtype=torch.int8)
    right_BN = torch.full((rows, right), 127, dtype=torch.int8)
    right_BN[:, ::2] = -128
    sums_N = rows * 127 * right_BN[0].to(torch.int32)
    exact = [name for name in names if torch.equal(UNITS[name](left_BM, right_BN)[0], sums_N)]
    took: dict[str, list[float]] = {name: [] for name in exact}
    for _ in range(_TURNS):
        for name in exact:  # in turns, so that other work on the machine affects all
            start = time.perf_counter()
            UNITS[name](left_BM, right_BN)
            took[name].append(time.perf_counter() - start)
    return {name: median(each) for name, each in took.items()}
