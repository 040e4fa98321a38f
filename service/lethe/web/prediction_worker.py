"""Predicts with the newest snapshot of the learner, one request at a time, concurrently with learning.

The learner itself is not involved: neither a batch nor a solve of seconds delays a prediction. A prediction
takes one core and no lock of the learner.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import torch

from lethe.learners.parallel import use_one_thread
from lethe.web.predictor_snapshots import PredictorSnapshots
from lethe.wire import Layout, Pixels

__all__ = [
    "MAX_WAITING",
    "NoClassYet",
    "NonFinitePrediction",
    "PredictionResult",
    "PredictionWorker",
    "QueueFull",
]

MAX_WAITING: Final = 16
"""Requests that may wait; further ones are rejected."""
QUICK_SECONDS: Final = 0.01
"""CPU time up to which a prediction may block the thread of the server."""
MAX_SLOW_PREDICTIONS: Final = 3
"""Consecutive predictions that may take longer: a single one may include a garbage collection."""


class QueueFull(Exception):
    """`MAX_WAITING` requests are already waiting."""


class NonFinitePrediction(Exception):
    """A predicted probability is not finite: the learner has diverged."""


class NoClassYet(Exception):
    """No class has appeared in the stream yet, so none can be predicted."""


@dataclass(frozen=True, slots=True)
class PredictionResult:
    """Class probabilities of samples, from a snapshot taken after ``samples`` samples."""

    p_BK: npt.NDArray[np.float32]
    samples: int


class PredictionWorker:
    """Predicts one request at a time. A context manager: ends its thread on exit.

    `predict_now` computes a short prediction on the calling thread: handing it over to another thread and
    back would delay learning by as much as the prediction itself. `submit` computes others on the worker's
    thread.

    On entry, a blank sample of ``layout`` is predicted, so that whatever a learner initialises at its first
    prediction is ready for the first request.
    """

    def __init__(self, snapshots: PredictorSnapshots, layout: Layout) -> None:
        torch.get_num_threads()  # fixes this thread's setting before another thread sets its own
        self._snapshots, self._layout = snapshots, layout
        self._slots = threading.BoundedSemaphore(MAX_WAITING)
        self._lock, self._slow = threading.Lock(), 0
        self._thread = threading.local()
        self._worker = ThreadPoolExecutor(1, "lethe-predict")

    def predict_now(self, read: Callable[[], Pixels]) -> PredictionResult | None:
        """Return the prediction for the samples that ``read`` returns, [B, …], from this thread.

        The samples are overwritten with zeros.

        Return None without calling ``read`` while another request is answered, or after
        `MAX_SLOW_PREDICTIONS` predictions that took longer than `QUICK_SECONDS`; use `submit` then.

        Raises NonFinitePrediction, NoClassYet, and what ``read`` raises.
        """
        if self._slow >= MAX_SLOW_PREDICTIONS or not self._lock.acquire(blocking=False):
            return None
        try:
            started = time.thread_time()
            result = self._predict(read)
            self._slow = self._slow + 1 if time.thread_time() - started > QUICK_SECONDS else 0
            return result
        finally:
            self._lock.release()

    def submit(self, read: Callable[[], Pixels]) -> Future[PredictionResult]:
        """Return the future prediction for the samples that ``read`` returns, [B, …].

        The samples are overwritten with zeros. The future raises NonFinitePrediction, NoClassYet, and what
        ``read`` raises. Raises QueueFull.
        """
        if not self._slots.acquire(blocking=False):
            raise QueueFull
        try:
            future = self._worker.submit(self._predict_locked, read)
        except RuntimeError:
            self._slots.release()
            raise
        future.add_done_callback(lambda _: self._slots.release())
        return future

    def _predict_locked(self, read: Callable[[], Pixels]) -> PredictionResult:
        with self._lock:
            return self._predict(read)

    def _predict(self, read: Callable[[], Pixels]) -> PredictionResult:
        if not hasattr(self._thread, "settled"):
            use_one_thread()
            self._thread.settled = True
        x_BCHW = read()
        try:
            predictor, samples = self._snapshots.latest
            p_BK = predictor.predict_proba(torch.from_numpy(x_BCHW))
        finally:
            x_BCHW[...] = 0  # numpy reuses the memory of small arrays without clearing it
        if self._layout.features is not None:
            # a matrix product keeps its own copy of vectors until the next one of the same size
            predictor.predict_proba(torch.from_numpy(x_BCHW))
        if not p_BK.shape[1]:
            raise NoClassYet
        if not bool(p_BK.isfinite().all()):
            raise NonFinitePrediction
        return PredictionResult(p_BK.numpy(), samples)

    def __enter__(self) -> Self:
        blank = np.zeros((1, *self._layout.shape), self._layout.dtype)
        self._worker.submit(
            self._predict_locked, lambda: blank
        )  # an error will occur again at the next request, which reports it
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.shutdown(cancel_futures=True)
