"""Transforms of a segment's images: rotation, a permutation of the pixels, or one of torchvision's."""

import inspect
from collections.abc import Sequence
from functools import cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from lethe.wire import Pixels

__all__ = ["Transform", "transformed"]


class Transform(BaseModel):
    """A change of every image of a segment; exactly one of rotate, permute and torchvision."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rotate: float | None = None
    """Degrees, counter-clockwise, around the centre; corners are filled with black."""
    permute: int | None = Field(default=None, ge=0)
    """Seed of a fixed permutation of the pixels (Goodfellow et al. 2013)."""
    torchvision: str | None = Field(default=None, pattern=r"^[A-Z][A-Za-z0-9]*$")
    """Name of a class of torchvision.transforms.v2, such as GaussianBlur."""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Arguments of torchvision's class."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.rotate, self.permute, self.torchvision).count(None) != 2:
            raise ValueError("needs one of rotate, permute and torchvision")
        if self.arguments and self.torchvision is None:
            raise ValueError("arguments are those of torchvision, which is missing")
        return self

    def __str__(self) -> str:
        if self.torchvision is not None:
            return f"{self.torchvision}({', '.join(f'{k}={v!r}' for k, v in self.arguments.items())})"
        return f"rotate {self.rotate}" if self.rotate is not None else f"permute {self.permute}"


def transformed(x_NCHW: Pixels, transforms: Sequence[Transform], seeds: Sequence[int] = ()) -> Pixels:
    """Return images (uint8, [N, C, H, W]) after ``transforms``, one after the other; vectors have none.

    ``seeds`` has a number for each image, by default its place: a random transform of torchvision does the
    same to an image under the same seed. Raises ValueError for a class or arguments that torchvision does not
    have, and for a transform that does not give uint8 images.
    """
    for transform in transforms:
        x_NCHW = _one_of(transform, x_NCHW, seeds or range(len(x_NCHW)))
    return x_NCHW


def _one_of(transform: Transform, x_NCHW: Pixels, seeds: Sequence[int]) -> Pixels:
    if transform.rotate is not None:
        planes = x_NCHW.reshape(-1, *x_NCHW.shape[2:])
        return np.stack([_rotated(plane, transform.rotate) for plane in planes]).reshape(x_NCHW.shape)
    if transform.permute is not None:
        flat = x_NCHW.reshape(*x_NCHW.shape[:2], -1)
        return flat[..., _permutation(transform.permute, flat.shape[-1])].reshape(x_NCHW.shape)
    return np.stack(
        [_by_torchvision(transform, image, seed) for image, seed in zip(x_NCHW, seeds, strict=True)]
    )


def _rotated(plane_HW: Pixels, degrees: float) -> Pixels:
    return np.asarray(Image.fromarray(plane_HW).rotate(degrees, Image.Resampling.BILINEAR))


@cache
def _permutation(seed: int, pixels: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(pixels)


def _by_torchvision(transform: Transform, x_CHW: Pixels, seed: int) -> Pixels:
    import torch  # takes seconds

    change = _made(str(transform), transform)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            changed = change(torch.tensor(x_CHW))
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{transform} fails: {' '.join(str(error).split())}") from error
    if not isinstance(changed, torch.Tensor) or changed.dtype != torch.uint8 or changed.ndim != 3:
        raise ValueError(f"{transform} does not give a uint8 image")
    return changed.numpy()


_MADE: dict[str, Any] = {}


def _made(name: str, transform: Transform) -> Any:
    """Return torchvision's transform; it holds no state between images."""
    if name not in _MADE:
        from torchvision.transforms import v2  # takes seconds

        kind = getattr(v2, transform.torchvision or "", None)
        if not (inspect.isclass(kind) and issubclass(kind, v2.Transform)):
            raise ValueError(f"torchvision.transforms.v2 has no transform {transform.torchvision}")
        try:
            _MADE[name] = kind(**transform.arguments)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{transform}: {' '.join(str(error).split())}") from error
    return _MADE[name]
