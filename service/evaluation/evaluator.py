"""Measures a learner on the probes without changing what it learns."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import numpy as np
import torch
from torch import Tensor

from service.evaluation.calibration import Calibration
from service.events import Reading
from service.learners.base import Learner
from service.probeset import ProbeSet

__all__ = ["CHUNK", "MOST_CLASSES", "Evaluator", "Interrupted"]

CHUNK: Final = 500
"""Images predicted at once: bounds the memory of an evaluation whatever the size of a probe."""
MOST_CLASSES: Final = 100
"""With more classes, a probe is not measured class by class: nobody could read it."""


class Interrupted(Exception):
    """The service was asked to stop while it evaluated; there is no result."""


class Evaluator:
    """Measures on every probe: on a fixed random subset while learning, on all of it when asked.

    The subset of a probe depends on the seed and the probe's name alone, so that runs with the
    same seed are measured on the same images, whichever other probes there are.
    """

    def __init__(self, probes: Sequence[ProbeSet], subset: int, seed: int) -> None:
        """Keep ``probes``, of which ``subset`` images each are used unless ``full``.

        Raises ValueError when there are no probes, one is empty, or ``subset`` is below 1.
        """
        if not probes:
            raise ValueError("there are no probes to evaluate on")
        if subset < 1:
            raise ValueError(f"subset of {subset} images: at least 1 is needed")
        empty = [probe.name for probe in probes if len(probe.y_N) == 0]
        if empty:
            raise ValueError(f"probe {empty[0]} is empty")
        self._full, self._subset = {}, {}
        for probe in probes:
            x_NCHW, y_N = _tensors(probe.x_NCHW, probe.y_N)
            chosen = torch.from_numpy(_choose(len(y_N), subset, seed, probe.name))
            self._full[probe.name] = _Images(x_NCHW, y_N, chosen)
            self._subset[probe.name] = _Images(x_NCHW[chosen], y_N[chosen], torch.arange(len(chosen)))

    def evaluate(
        self, learner: Learner, full: bool, stopping: Callable[[], bool] = lambda: False
    ) -> dict[str, Reading]:
        """Return what is found on each probe, in the probes' order.

        ``stopping`` is asked before each chunk; raises Interrupted once it says so.

        The learner's mode is restored by `Learner.predict`, torch's random state here: with
        evaluations or without, the same batches lead to the same state, bit for bit.
        """
        sets = self._full if full else self._subset
        with _same_random_state():
            return {name: _read(learner, images, stopping) for name, images in sets.items()}


@dataclass(frozen=True, slots=True)
class _Images:
    """What is predicted; ``subset`` are the places of the probe's subset in it."""

    x_NCHW: Tensor
    y_N: Tensor
    subset: Tensor


def _tensors(x_NCHW: np.ndarray, y_N: np.ndarray) -> tuple[Tensor, Tensor]:
    # torch shares memory with numpy, and refuses what is read-only
    x, y = (np.require(array, requirements=["C", "W"]) for array in (x_NCHW, y_N))
    return torch.from_numpy(x), torch.from_numpy(y)


def _choose(images: int, subset: int, seed: int, name: str) -> np.ndarray:
    entropy = int.from_bytes(sha256(f"{seed} {name}".encode()).digest())
    order = np.random.default_rng(entropy).permutation(images)
    return np.sort(order[:subset])


def _read(learner: Learner, images: _Images, stopping: Callable[[], bool]) -> Reading:
    calibration, correct, classes = Calibration(), [], 0
    for x_BCHW, y_B in zip(torch.split(images.x_NCHW, CHUNK), torch.split(images.y_N, CHUNK), strict=True):
        if stopping():
            raise Interrupted
        p_BK = learner.predict(x_BCHW)
        classes = p_BK.shape[1]
        correct.append(p_BK.argmax(dim=1) == y_B)
        calibration.add(p_BK, correct[-1])
    correct_N = torch.cat(correct)
    return Reading(
        accuracy=_share(correct_N),
        on_subset=_share(correct_N[images.subset]),
        by_class=_by_class(correct_N, images.y_N, classes) if classes <= MOST_CLASSES else (),
        ece=calibration.error,
    )


def _share(correct_N: Tensor) -> float:
    return int(correct_N.sum()) / len(correct_N)


def _by_class(correct_N: Tensor, y_N: Tensor, classes: int) -> tuple[float | None, ...]:
    all_K, right_K = (torch.bincount(y, minlength=classes).tolist() for y in (y_N, y_N[correct_N]))
    return tuple(right / count if count else None for right, count in zip(right_K, all_K, strict=True))


@contextmanager
def _same_random_state() -> Iterator[None]:
    # naming the devices keeps fork_rng from waking up CUDA on a machine that learns on the CPU
    awake = torch.cuda.is_initialized()  # type: ignore[no-untyped-call] # torch leaves it untyped
    with torch.random.fork_rng(range(torch.cuda.device_count()) if awake else ()):
        yield
