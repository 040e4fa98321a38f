"""Filters in whole numbers, whose responses are exact.

Shapes: k pixels a side of a filter.
"""

from typing import Final

import torch
from torch import Tensor

__all__ = ["whole_filters"]

_LARGEST: Final = 120  # of a weight, before the one in the middle makes up for rounding


def whole_filters(weights_kk: Tensor) -> tuple[Tensor, float]:
    """Return filters of shape [..., k, k] as int8, and how many of their units are a 1.

    Each filter's weights sum to 0, as before: what rounding has added is taken from the weight in the middle.
    """
    units = _LARGEST / weights_kk.abs().max().item()
    whole_kk = (weights_kk * units).round()
    middle = whole_kk.shape[-1] // 2
    whole_kk[..., middle, middle] -= whole_kk.sum((-1, -2))
    return whole_kk.to(torch.int8), units
