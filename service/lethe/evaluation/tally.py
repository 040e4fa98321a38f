"""Counts of right predictions on the images of a probe.

Shapes: B batch, K classes.
"""

from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

import torch
from torch import Tensor

from lethe.evaluation.calibration import calibration_error, excess
from lethe.events import Reading

__all__ = ["MOST_CLASSES", "Tally"]

MOST_CLASSES: Final = 100
"""Maximum number of classes for accuracies by class."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What is known of predictions on some images: whole numbers, which can be added in any order.

    So the result on a probe is the same to the last bit, in however many parts it was evaluated.
    """

    images: int = 0
    correct: int = 0
    in_subset: int = 0
    correct_in_subset: int = 0
    images_by_class: tuple[int, ...] = ()
    correct_by_class: tuple[int, ...] = ()
    excess: tuple[int, ...] = ()
    """By bin of confidence, as `lethe.evaluation.calibration.excess` returns it."""

    @classmethod
    def of(cls, p_BK: Tensor, y_B: Tensor, in_subset_B: Tensor, classes: int) -> "Tally":
        """Count predictions ``p_BK`` of images with the labels ``y_B``, −1 for one that cannot be right."""
        correct_B = p_BK.argmax(dim=1) == y_B
        known_B = y_B >= 0
        images, correct = (
            tuple(torch.bincount(y, minlength=classes).tolist()) if classes <= MOST_CLASSES else ()
            for y in (y_B[known_B], y_B[known_B & correct_B])
        )
        return cls(
            len(y_B),
            int(correct_B.sum()),
            int(in_subset_B.sum()),
            int((correct_B & in_subset_B).sum()),
            images,
            correct,
            tuple(excess(p_BK, correct_B).tolist()),
        )

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.images + other.images,
            self.correct + other.correct,
            self.in_subset + other.in_subset,
            self.correct_in_subset + other.correct_in_subset,
            _sums(self.images_by_class, other.images_by_class),
            _sums(self.correct_by_class, other.correct_by_class),
            _sums(self.excess, other.excess),
        )

    def reading(self) -> Reading:
        """Return the result on a probe, of which all images were counted."""
        by_class = zip(self.correct_by_class, self.images_by_class, strict=True)
        return Reading(
            accuracy=self.correct / self.images,
            on_subset=self.correct_in_subset / self.in_subset,
            by_class=tuple(right / count if count else None for right, count in by_class),
            ece=calibration_error(self.excess, self.images),
        )


def _sums(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip_longest(one, other, fillvalue=0))
