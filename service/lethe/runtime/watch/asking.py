"""Asks a watched model about many images: in requests of a few, some at once, within a number a minute."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from lethe.errors import TargetUnavailable, UnexpectedAnswer
from lethe.events import Emit, LoopTurned, RequestsMade
from lethe.runtime.watch.targets.target import Answers, Target
from lethe.wire import Pixels

__all__ = ["Asker", "Outcome", "Pace"]

TURN_SECONDS: Final = 1.0
"""How often a loop that waits for answers says that it is alive."""


class Pace:
    """Lets at most ``per_minute`` requests begin a minute, evenly spaced; None for no limit."""

    def __init__(self, per_minute: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._apart = 0.0 if per_minute is None else 60.0 / per_minute
        self._clock, self._next = clock, clock()
        self._lock, self._closed = threading.Lock(), threading.Event()
        self.retried = 0
        """Retries so far."""

    def wait(self) -> None:
        """Wait until one more request may begin. Raises TargetUnavailable once it is closed."""
        with self._lock:
            now = self._clock()
            begins = max(now, self._next)
            self._next = begins + self._apart
        if self._closed.wait(begins - now):
            raise TargetUnavailable("the service stops")

    def sleep(self, seconds: float) -> None:
        """Wait before a retry, which uses up the budget as a request does."""
        with self._lock:
            self.retried += 1
        self._closed.wait(seconds)
        self.wait()

    def close(self) -> None:
        """End all waiting."""
        self._closed.set()


@dataclass
class Outcome:
    """What became of one round of requests about N images."""

    labels_N: npt.NDArray[np.int64]
    """The answered classes; −1 where there is no answer."""
    confidence_N: npt.NDArray[np.float64]
    failure: str = ""
    """Why the round is incomplete; empty if it is complete."""
    unexpected: bool = False
    """The failure is an answer that does not fit the protocol."""
    versions: set[str] = field(default_factory=set)
    """The versions that answered."""


class Asker:
    """Asks ``target`` in requests of ``batch`` images, at most ``concurrency`` of them at once.

    A round ends with the first request that fails after its retries: the rest would wait as long for nothing.
    """

    def __init__(
        self,
        target: Target,
        pace: Pace,
        emit: Emit,
        stopping: Callable[[], bool],
        batch: int = 32,
        concurrency: int = 4,
    ) -> None:
        self.target, self.batch = target, batch
        self._pace, self._emit, self._stopping, self._concurrency = pace, emit, stopping, concurrency
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="lethe-watch")

    def ask(self, x_NCHW: Pixels) -> Outcome:
        """Return the answers to all images, or those up to the first failure."""
        outcome = Outcome(np.full(len(x_NCHW), -1, dtype=np.int64), np.zeros(len(x_NCHW)))
        starts = iter(range(0, len(x_NCHW), self.batch))
        pending: dict[Future[tuple[Answers, float]], int] = {}
        failed = images = 0
        seconds, retried = list[float](), self._pace.retried
        while True:
            while not outcome.failure and len(pending) < self._concurrency:
                if (start := next(starts, None)) is None:
                    break
                pending[self._pool.submit(self._one, x_NCHW[start : start + self.batch])] = start
            if not pending:
                break
            done, _ = wait(pending, TURN_SECONDS, FIRST_COMPLETED)
            self._emit(LoopTurned(0))
            if self._stopping():
                self._pace.close()
                outcome.failure = outcome.failure or "the service stops"
            for future in done:
                start = pending.pop(future)
                try:
                    answers, took = future.result()
                except TargetUnavailable as error:
                    failed += 1
                    outcome.failure = outcome.failure or str(error)
                    outcome.unexpected = outcome.unexpected or isinstance(error, UnexpectedAnswer)
                else:
                    seconds.append(took)
                    images += len(answers.labels_B)
                    end = start + len(answers.labels_B)
                    outcome.labels_N[start:end] = answers.labels_B
                    outcome.confidence_N[start:end] = answers.confidence_B
                    outcome.versions |= set() if answers.version is None else {answers.version}
        retried = self._pace.retried - retried
        self._emit(RequestsMade(len(seconds), failed, images, retried, tuple(seconds)))
        return outcome

    def close(self) -> None:
        """End all requests, and release what the target holds."""
        self._pace.close()
        self._pool.shutdown(cancel_futures=True)
        self.target.close()

    def _one(self, x_BCHW: Pixels) -> tuple[Answers, float]:
        """Return the answers, and how many seconds they took from when the budget allowed the request."""
        self._pace.wait()
        began = time.perf_counter()
        return self.target.ask(x_BCHW), time.perf_counter() - began
