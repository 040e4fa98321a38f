"""Transforms of a segment's images: rotation or a permutation of the pixels."""

from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from lethe.wire import Pixels
from lethe_producers.scenario import Transform

__all__ = ["transformed"]


def transformed(x_NCHW: Pixels, transform: Transform | None) -> Pixels:
    """Return images (uint8, [N, C, H, W]) after ``transform``; None returns them unchanged."""
    if transform is None:
        return x_NCHW
    if transform.rotate is not None:
        planes = x_NCHW.reshape(-1, *x_NCHW.shape[2:])
        return np.stack([_rotated(plane, transform.rotate) for plane in planes]).reshape(x_NCHW.shape)
    if transform.permute is not None:
        flat = x_NCHW.reshape(*x_NCHW.shape[:2], -1)
        return flat[..., _permutation(transform.permute, flat.shape[-1])].reshape(x_NCHW.shape)
    raise ValueError("the transform neither rotates nor permutes")


def _rotated(plane_HW: Pixels, degrees: float) -> Pixels:
    return np.asarray(Image.fromarray(plane_HW).rotate(degrees, Image.Resampling.BILINEAR))


@cache
def _permutation(seed: int, pixels: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(pixels)
