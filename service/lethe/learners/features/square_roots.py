"""Square roots of float32 numbers, each rounded as IEEE 754 demands.

On a CPU torch takes them by MKL, which promises an error below one unit in the last place, not correct
rounding. On CPUs by AMD the last bit of every fifth root is another one.
"""

import numpy as np
import torch
from torch import Tensor

__all__ = ["square_roots", "square_roots_"]


def square_roots_(x: Tensor) -> Tensor:
    """Replace the numbers in ``x``, float32, by their square roots, and return it."""
    if x.device.type != "cpu":
        return x.sqrt_()
    array = x.numpy()
    np.sqrt(array, out=array)  # the instruction of the CPU
    return x


def square_roots(x: Tensor) -> Tensor:
    """Return the same roots, by operations that can be exported and are slower.

    In float64 no root comes close enough to the middle of two float32 numbers for MKL's error to matter. The
    middle has 25 bits and its square 50, so a root stays more than four units in the last place away from it.
    """
    return x.to(torch.float64).sqrt().to(torch.float32)
