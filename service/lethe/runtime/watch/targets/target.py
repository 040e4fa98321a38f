"""What a watched model is to the loop: something that classifies images.

Shapes: B images of a request, C channels, H height, W width, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from lethe.errors import UnexpectedAnswer
from lethe.wire import Pixels

__all__ = ["Answers", "Form", "Target", "read_outputs"]

SUM_TOLERANCE: Final = 1e-3
"""How far a row of probabilities may be from a sum of 1."""


@dataclass(frozen=True, slots=True)
class Answers:
    """A model's answers to the images of one request."""

    labels_B: npt.NDArray[np.int64]
    """The most probable class of each image."""
    confidence_B: npt.NDArray[np.float64]
    """Its probability; 1 from a model that returns labels alone."""
    version: str | None = None
    """The version that answered; None if the model reports none."""


class Target(Protocol):
    """A model that is asked. `ask` may be called from several threads at once."""

    @property
    def name(self) -> str:
        """Its name in metrics and on the page."""

    @property
    def address(self) -> str:
        """Where it is."""

    def ask(self, x_BCHW: Pixels) -> Answers:
        """Classify images. Raises TargetUnavailable, UnexpectedAnswer."""

    def refresh(self) -> str | None:
        """Look for a new version, before each round; return the version, None if unknown."""

    def close(self) -> None:
        """Release what it holds."""


@dataclass(frozen=True, slots=True)
class Form:
    """The form in which a model takes images."""

    values: Literal["uint8", "unit"] = "uint8"
    """Whole numbers from 0 to 255, or float32 from 0 to 1."""
    shape: Literal["nchw", "nhwc", "flat"] = "nchw"
    """[B, C, H, W], [B, H, W, C] or [B, C·H·W]."""

    def apply(self, x_BCHW: Pixels) -> npt.NDArray[Any]:
        """Return the images in this form; vectors of float32, [B, F], stay as they are.

        >>> Form("unit", "flat").apply(np.full((2, 1, 1, 2), 255, np.uint8)).tolist()
        [[1.0, 1.0], [1.0, 1.0]]
        """
        x: npt.NDArray[Any] = x_BCHW
        if x.dtype == np.float32:
            return x
        if self.shape == "nhwc":
            x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        elif self.shape == "flat":
            x = x.reshape(len(x), -1)
        return x.astype(np.float32) / 255 if self.values == "unit" else x


def read_outputs(outputs: object, asked: Sequence[int], version: str | None = None) -> Answers:
    """Return the answers in ``outputs``: labels [B], or a row of K probabilities or scores for each image.

    Rows that are no probabilities count as scores before a softmax. ``asked`` is the shape of the request.
    Raises UnexpectedAnswer, with both shapes, for anything else.
    """
    images = asked[0]
    try:
        found = np.asarray(outputs)
    except ValueError as error:  # rows of different lengths
        raise UnexpectedAnswer(f"asked with shape {list(asked)}, the answer has no shape: {error}") from error
    if found.dtype.kind not in "biuf" or found.ndim == 0 or len(found) != images:
        raise _unexpected(found, asked, f"numbers of shape [{images}] or [{images}, K]")
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if not np.isfinite(found).all():
        raise UnexpectedAnswer(f"asked with shape {list(asked)}, the answer has numbers that are not finite")
    if found.ndim == 1:
        labels = found.astype(np.int64)
        if (labels != found).any():
            raise _unexpected(found, asked, "whole numbers: the labels of the classes")
        return Answers(labels, np.ones(images), version)
    if found.ndim != 2:
        raise _unexpected(found, asked, f"numbers of shape [{images}] or [{images}, K]")
    p_BK = found.astype(np.float64)
    if (p_BK < 0).any() or (np.abs(p_BK.sum(axis=1) - 1) > SUM_TOLERANCE).any():
        p_BK = np.exp(p_BK - p_BK.max(axis=1, keepdims=True))
        p_BK /= p_BK.sum(axis=1, keepdims=True)
    return Answers(p_BK.argmax(axis=1).astype(np.int64), p_BK.max(axis=1), version)


def _unexpected(found: npt.NDArray[Any], asked: Sequence[int], expected: str) -> UnexpectedAnswer:
    return UnexpectedAnswer(
        f"asked with shape {list(asked)}, answered with {found.dtype} of shape {list(found.shape)}; "
        f"expected {expected}"
    )
