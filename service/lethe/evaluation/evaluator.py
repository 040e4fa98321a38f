"""Evaluates a learner on the probes without changing its state.

Shapes: N images, C channels, H height, W width, B images of a chunk, K classes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import count

import numpy as np
import torch
from torch import Tensor

from lethe.errors import DivergedLoss
from lethe.evaluation.probe_features import CHUNK, ProbeFeatures
from lethe.evaluation.tally import Tally
from lethe.events import Reading
from lethe.learners.base import Learner
from lethe.learners.fixed_features import FixedFeatures
from lethe.learners.predictor import restricted
from lethe.probeset import ProbeSet, check_probe

__all__ = ["Evaluator", "Interrupted", "choose_images"]


class Interrupted(Exception):
    """The service was asked to stop during an evaluation, which has no result."""


class Evaluator:
    """Evaluates on every probe: on a fixed random subset while learning, on the whole probe on request.

    The subset of a probe depends only on the seed and the name of the probe, so that runs with the same
    seed are evaluated on the same images, whatever other probes there are. Fixed features of the images are
    computed once: `ProbeFeatures`.

    Several ranks can evaluate one learner together. Each predicts whole chunks of images, which are dealt
    like cards: a chunk's probabilities are then the same bits, whichever rank computes them, and the counts
    of all ranks add up to those of one.
    """

    def __init__(
        self,
        probes: Sequence[ProbeSet],
        subset: int,
        seed: int,
        feature_bytes: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        """Prepare ``probes``, of which ``subset`` images each are used unless ``full``.

        ``feature_bytes`` is the memory that features of their images may take. `tally` counts the part of
        ``rank`` of so many ``ranks``.

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
        self._features = ProbeFeatures(feature_bytes)
        self._names = {probe.name: probe.classes for probe in probes}
        self._images: dict[bool, dict[str, int]] = {False: {}, True: {}}
        self._parts: dict[bool, dict[str, _Images]] = {False: {}, True: {}}
        dealt = {full: count() for full in self._parts}
        for probe in probes:
            x_NCHW, y_N = _tensors(probe.x_NCHW, probe.y_N)
            chosen = torch.from_numpy(choose_images(len(y_N), subset, seed, probe.name))
            in_subset_N = torch.zeros(len(y_N), dtype=torch.bool)
            in_subset_N[chosen] = True
            for full, rows in ((True, torch.arange(len(y_N))), (False, chosen)):
                self._images[full][probe.name] = len(rows)
                chunks = [rows_B for rows_B in torch.split(rows, CHUNK) if next(dealt[full]) % ranks == rank]
                own = torch.cat([rows[:0], *chunks])
                part = _Images(x_NCHW, y_N, in_subset_N)
                self._parts[full][probe.name] = part if len(own) == len(y_N) else part.at(own)

    def evaluate(
        self,
        learner: Learner,
        full: bool,
        stopping: Callable[[], bool] = lambda: False,
        classes: Sequence[str] | None = None,
    ) -> dict[str, Reading]:
        """Return the result on each probe, in the order of the probes; raises the errors of `tally`.

        Only without other ranks, whose counts would be lacking.
        """
        counted = self.tally(learner, full, stopping, classes)
        return {name: tally.reading() for name, tally in counted.items()}

    def tally(
        self,
        learner: Learner,
        full: bool,
        stopping: Callable[[], bool] = lambda: False,
        classes: Sequence[str] | None = None,
    ) -> dict[str, Tally]:
        """Return what is right of this rank's part of each probe, in the order of the probes.

        ``classes`` are the names that the learner's classes have so far, by number: it predicts one of these,
        and is wrong about an image of any other. None if classes have no names, and the numbers of a probe's
        are the learner's.

        Calls ``stopping`` before each chunk, and raises Interrupted once it returns true. Raises DivergedLoss
        for predictions that are not finite, which would count as class 0.

        The learner's mode is restored by `Learner.predict_proba`, torch's random state here: the
        same batches lead to the same state, bit for bit, with or without evaluations.
        """
        with _same_random_state():
            return {
                name: _count(
                    name,
                    self._predict(learner, name, full, images.x_NCHW),
                    images,
                    self._numbered(name, images.y_N, classes),
                    None if classes is None else len(classes),
                    stopping,
                )
                for name, images in self._parts[full].items()
            }

    @property
    def feature_bytes(self) -> int:
        """Memory for features of the probes' images, in bytes."""
        return self._features.nbytes

    def images(self, full: bool) -> dict[str, int]:
        """Return the number of images of each probe that are used, by all ranks together."""
        return dict(self._images[full])

    def _numbered(self, name: str, y_N: Tensor, classes: Sequence[str] | None) -> Tensor:
        """Return the labels of a probe as numbers of ``classes``; -1 for one that is not among them."""
        if classes is None:
            return y_N
        numbers = {name: number for number, name in enumerate(classes)}
        return torch.tensor([numbers.get(own, -1) for own in self._names[name]])[y_N]

    def _predict(self, learner: Learner, name: str, full: bool, x_NCHW: Tensor) -> Iterator[Tensor]:
        """Yield probabilities, [B, K], of one chunk after the other."""
        if not len(x_NCHW):
            return
        if isinstance(learner, FixedFeatures) and learner.features_settled:
            yield from map(learner.predict_features, self._features.chunks(learner, name, full, x_NCHW))
        else:
            yield from map(learner.predict_proba, torch.split(x_NCHW, CHUNK))


@dataclass(frozen=True, slots=True)
class _Images:
    """Images and labels, and which images are of the probe's subset."""

    x_NCHW: Tensor
    y_N: Tensor
    in_subset_N: Tensor

    def at(self, rows: Tensor) -> "_Images":
        """Return the images at some indices."""
        return _Images(self.x_NCHW[rows], self.y_N[rows], self.in_subset_N[rows])


def _tensors(x_NCHW: np.ndarray, y_N: np.ndarray) -> tuple[Tensor, Tensor]:
    # torch shares memory with numpy, and rejects read-only arrays
    x, y = (np.require(array, requirements=["C", "W"]) for array in (x_NCHW, y_N))
    return torch.from_numpy(x), torch.from_numpy(y)


def choose_images(images: int, subset: int, seed: int, name: str) -> np.ndarray:
    """Return the sorted indices of ``subset`` of a probe's ``images``, by the seed and the probe's name."""
    entropy = int.from_bytes(sha256(f"{seed} {name}".encode()).digest())
    order = np.random.default_rng(entropy).permutation(images)
    return np.sort(order[:subset])


def _count(
    name: str,
    predictions: Iterator[Tensor],
    images: _Images,
    y_N: Tensor,
    known: int | None,
    stopping: Callable[[], bool],
) -> Tally:
    """Count right ``predictions``, of which only the first ``known`` classes are possible, if given."""
    total = Tally()
    if not len(y_N):  # a rank may have no chunk of a probe
        return total
    for y_B, in_subset_B in zip(*(torch.split(t, CHUNK) for t in (y_N, images.in_subset_N)), strict=True):
        if stopping():
            raise Interrupted
        p_BK = next(predictions)
        if not bool(p_BK.isfinite().all()):
            raise DivergedLoss(f"predictions on the probe {name} are not finite")
        if known:
            p_BK = restricted(p_BK, known)
        total += Tally.of(p_BK, y_B, in_subset_B, p_BK.shape[1] if known is None else known)
    return total


@contextmanager
def _same_random_state() -> Iterator[None]:
    # explicit devices keep fork_rng from initialising CUDA on a machine that learns on the CPU
    awake = torch.cuda.is_initialized()  # type: ignore[no-untyped-call] # torch leaves it untyped
    with torch.random.fork_rng(range(torch.cuda.device_count()) if awake else ()):
        yield
