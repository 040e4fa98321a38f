"""The images of a probe that a watched model is asked about, and its latest answer to each."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from lethe.evaluation.calibration import Calibration
from lethe.evaluation.evaluator import choose_images
from lethe.evaluation.tally import MOST_CLASSES
from lethe.events import Reading
from lethe.probeset import ProbeSet

__all__ = ["Panel", "class_count"]


class Panel:
    """A fixed random subset of ``images`` images of ``probe``, the same for every model with this ``seed``.

    ``classes`` is the number of classes of all probes, for accuracies by class.
    """

    def __init__(self, probe: ProbeSet, images: int, seed: int, classes: int) -> None:
        chosen = choose_images(len(probe.y_N), images, seed, probe.name)
        self.name = probe.name
        """The probe's name."""
        self.x_NCHW, self.y_N = probe.x_NCHW[chosen], probe.y_N[chosen]
        self._classes = classes
        self._labels_N = np.full(len(chosen), -1, dtype=np.int64)
        self._confidence_N = np.zeros(len(chosen))
        self._before_N = np.zeros(len(chosen), dtype=np.bool_)

    def __len__(self) -> int:
        return len(self.y_N)

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether the latest answer to each image is right."""
        right_N: npt.NDArray[np.bool_] = self._labels_N == self.y_N
        return right_N

    def answered(
        self, at: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], confidence: npt.NDArray[np.float64]
    ) -> None:
        """Take the answers to the images at the indices ``at``; the later one counts if an index recurs."""
        self._labels_N[at], self._confidence_N[at] = labels, confidence

    @property
    def baseline(self) -> str:
        """The answers that later ones are compared with: 1 for a right one, 0 for a wrong one."""
        return "".join("1" if right else "0" for right in self._before_N)

    @baseline.setter
    def baseline(self, stored: str) -> None:
        if len(stored) != len(self):
            raise ValueError(f"{len(stored)} answers for {len(self)} images")
        self._before_N = np.array([right == "1" for right in stored])

    def remember(self) -> None:
        """Make the latest answers those that later ones are compared with."""
        self._before_N = self.right

    def changes(self, at: npt.NDArray[np.int64]) -> tuple[int, int]:
        """Return how many of the draws ``at`` were right and are wrong now, and the opposite."""
        before, now = self._before_N[at], self.right[at]
        return int((before & ~now).sum()), int((now & ~before).sum())

    def reading(self) -> Reading:
        """Return the result over the latest answers to all images.

        A model that returns labels alone counts as certain, so that its calibration error is its error.
        """
        right_N, calibration = self.right, Calibration()
        calibration.add(torch.from_numpy(self._confidence_N)[:, None], torch.from_numpy(right_N))
        accuracy = float(right_N.mean())
        return Reading(accuracy, accuracy, self._by_class(right_N), calibration.error)

    def _by_class(self, right_N: npt.NDArray[np.bool_]) -> tuple[float | None, ...]:
        if self._classes > MOST_CLASSES:
            return ()
        images = np.bincount(self.y_N, minlength=self._classes).tolist()
        right = np.bincount(self.y_N[right_N], minlength=self._classes).tolist()
        return tuple(r / n if n else None for r, n in zip(right, images, strict=True))


def class_count(probes: Sequence[ProbeSet]) -> int:
    """Return the number of classes of the probes: of their names, or one above the largest label."""
    return max(max(len(probe.classes), int(probe.y_N.max()) + 1) for probe in probes)
