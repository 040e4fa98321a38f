"""Prediction beside learning: from a copy of the learner, renewed between batches, on other threads.

The learner itself is never asked: what it is busy with, a batch or a solve of seconds, delays no
answer. The copy is renewed at most once a second, and where copying is slow so seldom that it
costs a hundredth of the time. An answer takes one core, and no lock of the learner's.
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

from service.events import BatchLearned, Evaluated, Event, Resumed, Turned
from service.learners.base import Learner
from service.learners.predictor import Predictor
from service.wire import Layout, Pixels

__all__ = ["MOST_WAITING", "Answer", "Busy", "Predictions", "Snapshots"]

RENEW_SECONDS: Final = 1.0
"""A copy is at least as old as this before it is renewed,"""
RENEW_COST: Final = 0.01
"""and renewing takes at most this share of the time,"""
OLDEST_SECONDS: Final = 10.0
"""unless a copy would get older than this."""
MOST_WAITING: Final = 16
"""Requests that may wait for their turn; who comes on top is turned away."""
QUICK_SECONDS: Final = 0.01
"""Of computing: who answers at once may keep others from being heard for as long as this."""
MOST_SLOW: Final = 3
"""Answers that may take longer one after the other: a single one may have had Python's garbage to collect."""


class Busy(Exception):
    """`MOST_WAITING` requests are waiting already."""


class Snapshots:
    """A subscriber to a run's events that keeps a recent copy of its learner.

    It is told events on the learning thread, between two batches, and copies only then.
    """

    def __init__(self, learner: Learner, clock: Callable[[], float] = time.monotonic) -> None:
        self._learner, self._clock = learner, clock
        self._learned = self._copied = 0
        self._renew()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Resumed():
                self._learned = event.learned
                self._renew()
            case BatchLearned():
                self._learned += event.samples
            case Turned() if self._learned != self._copied and self._clock() >= self._due:
                self._renew()
            case Evaluated():
                self._renew()  # for the evaluation, a learner may have brought itself up to date

    def _renew(self) -> None:
        started = self._clock()
        predictor = self._learner.predictor()
        self.latest: tuple[Predictor, int] = (predictor, self._learned - predictor.behind)
        self._copied = self._learned
        took = self._clock() - started
        self._due = started + min(max(RENEW_SECONDS, took / RENEW_COST), OLDEST_SECONDS)


@dataclass(frozen=True, slots=True)
class Answer:
    """Class probabilities of images, by the learner as it was after ``samples`` samples."""

    p_BK: npt.NDArray[np.float32]
    samples: int


class Predictions:
    """Answers requests, one at a time. A context manager: ends its thread on exit.

    A short answer is best given on the thread that was asked, `at_once`: to hand it over and back
    costs learning as much as the answer does. All others are computed in a thread of its own, `submit`.

    On entry it answers a blank image of ``layout``: what a learner makes at the first prediction is then
    there when somebody asks.
    """

    def __init__(self, snapshots: Snapshots, layout: Layout) -> None:
        torch.get_num_threads()  # settles this thread's number before another one chooses its own
        self._snapshots, self._layout = snapshots, layout
        self._places = threading.BoundedSemaphore(MOST_WAITING)
        self._turn, self._slow = threading.Lock(), 0
        self._thread = threading.local()
        self._worker = ThreadPoolExecutor(1, "lethe-predict")

    def at_once(self, read: Callable[[], Pixels]) -> Answer | None:
        """Return the answer for the few images that ``read`` gives, uint8 [B, C, H, W], from this thread.

        Return None, and read nothing, while somebody else is answered, or once `MOST_SLOW` answers have
        taken longer than `QUICK_SECONDS`: then `submit`. Raises what ``read`` raises.
        """
        if self._slow >= MOST_SLOW or not self._turn.acquire(blocking=False):
            return None
        try:
            started = time.thread_time()
            answer = self._answer(read)
            self._slow = self._slow + 1 if time.thread_time() - started > QUICK_SECONDS else 0
            return answer
        finally:
            self._turn.release()

    def submit(self, read: Callable[[], Pixels]) -> Future[Answer]:
        """Return what will hold the answer for the images that ``read`` gives, uint8 [B, C, H, W].

        What ``read`` raises is raised by the future. Raises Busy.
        """
        if not self._places.acquire(blocking=False):
            raise Busy
        try:
            future = self._worker.submit(self._in_turn, read)
        except RuntimeError:
            self._places.release()
            raise
        future.add_done_callback(lambda _: self._places.release())
        return future

    def _in_turn(self, read: Callable[[], Pixels]) -> Answer:
        with self._turn:
            return self._answer(read)

    def _answer(self, read: Callable[[], Pixels]) -> Answer:
        if not hasattr(self._thread, "settled"):
            torch.set_num_threads(1)
            self._thread.settled = True
        x_BCHW = torch.from_numpy(read())
        predictor, samples = self._snapshots.latest
        return Answer(predictor.predict(x_BCHW).numpy(), samples)

    def __enter__(self) -> Self:
        blank = np.zeros((1, *self._layout.shape), np.uint8)
        self._worker.submit(self._in_turn, lambda: blank)  # what it may raise, whoever asks next is told
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.shutdown(cancel_futures=True)
