"""Evaluates a learner on the probes without changing its state."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lethe.errors import DivergedLoss
from lethe.evaluation.calibration import Calibration
from lethe.evaluation.probe_features import CHUNK, ProbeFeatures
from lethe.events import Reading
from lethe.learners.base import Learner
from lethe.learners.fixed_features import FixedFeatures
from lethe.learners.predictor import restricted
from lethe.probeset import ProbeSet, check_probe

__all__ = ["MOST_CLASSES", "Evaluator", "Interrupted", "choose_images"]

MOST_CLASSES: Final = 100
"""Maximum number of classes for accuracies by class."""


class Interrupted(Exception):
    """The service was asked to stop during an evaluation, which has no result."""


class Evaluator:
    """Evaluates on every probe: on a fixed random subset while learning, on the whole probe on request.

    The subset of a probe depends only on the seed and the name of the probe, so that runs with the same
    seed are evaluated on the same images, whatever other probes there are. Fixed features of the images are
    computed once: `ProbeFeatures`.
    """

    def __init__(self, probes: Sequence[ProbeSet], subset: int, seed: int, feature_bytes: int = 0) -> None:
        """Prepare ``probes``, of which ``subset`` images each are used unless ``full``.

        ``feature_bytes`` is the memory that features of their images may take.

        Raises ValueError when there are no probes, one is empty, or ``subset`` is below 1; InvalidFile
        for a probe that `check_probe` refuses.
        """
        if not probes:
            raise ValueError("no probes to evaluate on")
        if subset < 1:
            raise ValueError(f"subset of {subset} images: at least 1 is needed")
        for probe in probes:
            check_probe(probe)  # learners would misread values of other dtypes
        empty = [probe.name for probe in probes if len(probe.y_N) == 0]
        if empty:
            raise ValueError(f"probe {empty[0]} is empty")
        self._full, self._subset = {}, {}
        self._features = ProbeFeatures(feature_bytes)
        self._names = {probe.name: probe.classes for probe in probes}
        for probe in probes:
            x_NCHW, y_N = _tensors(probe.x_NCHW, probe.y_N)
            chosen = torch.from_numpy(choose_images(len(y_N), subset, seed, probe.name))
            self._full[probe.name] = _Images(x_NCHW, y_N, chosen)
            self._subset[probe.name] = _Images(x_NCHW[chosen], y_N[chosen], torch.arange(len(chosen)))

    def evaluate(
        self,
        learner: Learner,
        full: bool,
        stopping: Callable[[], bool] = lambda: False,
        classes: Sequence[str] | None = None,
    ) -> dict[str, Reading]:
        """Return the result on each probe, in the order of the probes.

        ``classes`` are the names that the learner's classes have so far, by number: it predicts one of these,
        and is wrong about an image of any other. None if classes have no names, and the numbers of a probe's
        are the learner's.

        Calls ``stopping`` before each chunk, and raises Interrupted once it returns true. Raises DivergedLoss
        for predictions that are not finite, which would count as class 0.

        The learner's mode is restored by `Learner.predict_proba`, torch's random state here: the
        same batches lead to the same state, bit for bit, with or without evaluations.
        """
        sets = self._full if full else self._subset
        with _same_random_state():
            return {
                name: _read(
                    name,
                    self._predict(learner, name, full, images.x_NCHW),
                    images,
                    self._numbered(name, images.y_N, classes),
                    None if classes is None else len(classes),
                    stopping,
                )
                for name, images in sets.items()
            }

    @property
    def feature_bytes(self) -> int:
        """Memory for features of the probes' images, in bytes."""
        return self._features.nbytes

    def images(self, full: bool) -> dict[str, int]:
        """Return the number of images of each probe that `evaluate` uses."""
        return {name: len(images.y_N) for name, images in (self._full if full else self._subset).items()}

    def _numbered(self, name: str, y_N: Tensor, classes: Sequence[str] | None) -> Tensor:
        """Return the labels of a probe as numbers of ``classes``; -1 for one that is not among them."""
        if classes is None:
            return y_N
        numbers = {name: number for number, name in enumerate(classes)}
        return torch.tensor([numbers.get(own, -1) for own in self._names[name]])[y_N]

    def _predict(self, learner: Learner, name: str, full: bool, x_NCHW: Tensor) -> Iterator[Tensor]:
        """Yield probabilities, [B, K], of one chunk after the other."""
        if isinstance(learner, FixedFeatures) and learner.features_settled:
            yield from map(learner.predict_features, self._features.chunks(learner, name, full, x_NCHW))
        else:
            yield from map(learner.predict_proba, torch.split(x_NCHW, CHUNK))


@dataclass(frozen=True, slots=True)
class _Images:
    """Images and labels; ``subset`` holds the indices of the probe's subset."""

    x_NCHW: Tensor
    y_N: Tensor
    subset: Tensor


def _tensors(x_NCHW: np.ndarray, y_N: np.ndarray) -> tuple[Tensor, Tensor]:
    # torch shares memory with numpy, and rejects read-only arrays
    x, y = (np.require(array, requirements=["C", "W"]) for array in (x_NCHW, y_N))
    return torch.from_numpy(x), torch.from_numpy(y)


def choose_images(images: int, subset: int, seed: int, name: str) -> np.ndarray:
    """Return the sorted indices of ``subset`` of a probe's ``images``, by the seed and the probe's name."""
    entropy = int.from_bytes(sha256(f"{seed} {name}".encode()).digest())
    order = np.random.default_rng(entropy).permutation(images)
    return np.sort(order[:subset])


def _read(
    name: str,
    predictions: Iterator[Tensor],
    images: _Images,
    y_N: Tensor,
    known: int | None,
    stopping: Callable[[], bool],
) -> Reading:
    """Return the result of ``predictions``, of which only the first ``known`` classes count, if given."""
    calibration, correct, classes = Calibration(), [], 0
    for y_B in torch.split(y_N, CHUNK):
        if stopping():
            raise Interrupted
        p_BK = next(predictions)
        if not bool(p_BK.isfinite().all()):
            raise DivergedLoss(f"predictions on the probe {name} are not finite")
        if known:
            p_BK = restricted(p_BK, known)
        classes = p_BK.shape[1] if known is None else known
        correct.append(p_BK.argmax(dim=1) == y_B)
        calibration.add(p_BK, correct[-1])
    correct_N = torch.cat(correct)
    return Reading(
        accuracy=_share(correct_N),
        on_subset=_share(correct_N[images.subset]),
        by_class=_by_class(correct_N, y_N, classes) if classes <= MOST_CLASSES else (),
        ece=calibration.error,
    )


def _share(correct_N: Tensor) -> float:
    return int(correct_N.sum()) / len(correct_N)


def _by_class(correct_N: Tensor, y_N: Tensor, classes: int) -> tuple[float | None, ...]:
    known_N = y_N >= 0
    of = (y_N[known_N], y_N[known_N & correct_N])
    all_K, right_K = (torch.bincount(y, minlength=classes).tolist() for y in of)
    return tuple(right / count if count else None for right, count in zip(right_K, all_K, strict=True))


@contextmanager
def _same_random_state() -> Iterator[None]:
    # explicit devices keep fork_rng from initialising CUDA on a machine that learns on the CPU
    awake = torch.cuda.is_initialized()  # type: ignore[no-untyped-call] # torch leaves it untyped
    with torch.random.fork_rng(range(torch.cuda.device_count()) if awake else ()):
        yield
