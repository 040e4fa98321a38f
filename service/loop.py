"""The loop: one batch is predicted, learned and discarded; what is due is done; then the next."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from service.checkpoint import Checkpoint
from service.checkpointer import Checkpointer
from service.evaluation.evaluator import Evaluator, Interrupted
from service.evaluation.history import History
from service.events import (
    BatchLearned,
    BrokerSeen,
    Emit,
    Evaluated,
    Lag,
    RecordsDeadLettered,
    RecordsLost,
    RecordsReceived,
    SegmentStarted,
    Turned,
)
from service.feed import Batch, Feed
from service.feeder import BrokerState
from service.learners.base import Learner
from service.stream.source import Position

__all__ = ["Loop"]

WAIT_SECONDS: Final = 0.5
"""Without a batch, the loop turns as often as this, to notice that it shall stop."""
COMMIT_SECONDS: Final = 1.0
"""How often the broker is told how far learning is."""


@dataclass
class Loop:
    """Moves samples from the feed through the learner, each once, and tells what happened.

    ``stopping`` is asked between batches and, during an evaluation, between chunks of a probe.
    ``take`` makes a checkpoint of the run as it is after the last whole turn; ``position`` is
    where the feed starts.
    """

    feed: Feed
    learner: Learner
    evaluator: Evaluator | None
    evaluate_every: int
    history: History
    emit: Emit
    stopping: Callable[[], bool]
    checkpointer: Checkpointer | None = None
    take: Callable[[Position], Checkpoint] | None = None
    position: Position | None = None

    def run(self, ended: bool = False) -> None:
        """Learn until the stream's ``stop_after`` is reached or ``stopping`` says so.

        ``ended`` tells that it had been reached before the restart. Raises the LetheError that
        makes going on impossible.
        """
        self._committed = time.monotonic()
        try:
            if self.history.latest() is None:
                self._evaluate(full=True)  # the untrained learner: row 0 of R
            while not (ended or self.stopping()):
                self._do_what_is_due()
                news = self.feed.next(WAIT_SECONDS)
                if isinstance(news, Batch):
                    self._turn(news)
                    ended = news.filled.last
                elif isinstance(news, BrokerState):
                    self.emit(BrokerSeen(news.up, news.detail))
                self.emit(Turned(self.feed.resident))
            if ended:
                self._do_what_is_due()
                if not self.history.closed:
                    self._evaluate(full=True, ends_segment=bool(self.history.segments))
        except Interrupted:
            pass  # asked to stop while evaluating: the batch at hand is neither learned nor passed
        self._checkpoint()
        self._settle()

    def _turn(self, batch: Batch) -> None:
        self._notice_switch(batch)
        if batch.filled.samples:
            self._learn(batch)
        self.feed.release(batch)
        self._account(batch)
        self.position = batch.filled.position

    def _do_what_is_due(self) -> None:
        every, now = self.evaluate_every, self.history.samples
        if now // every != self.history.evaluated_at // every:
            self._evaluate(full=False)
        if self.checkpointer is not None:
            self.checkpointer.poll()
            if self.checkpointer.due(now):
                self._checkpoint()
        elif self.position is not None and time.monotonic() - self._committed >= COMMIT_SECONDS:
            self._committed = time.monotonic()
            self.feed.commit(self.position)

    def _learn(self, batch: Batch) -> None:
        filled = batch.filled
        started = time.perf_counter()
        learned = self.learner.learn(torch.from_numpy(batch.x_BCHW), torch.from_numpy(batch.y_B))
        correct = int((learned.predicted_B.numpy() == batch.y_B).sum())
        step = time.perf_counter() - started
        batch.discard()
        self.history.learned(filled.samples, correct)
        self.emit(
            BatchLearned(
                samples=filled.samples,
                correct=correct,
                loss=learned.loss,
                step_seconds=step,
                residency_seconds=time.monotonic() - filled.arrived,
                latency_seconds=time.time() - filled.produced,
                prequential=self.history.prequential.cumulative,
                prequential_fading=self.history.prequential.fading,
            )
        )

    def _notice_switch(self, batch: Batch) -> None:
        """Close a segment before the first batch with a sample of the next one is learned.

        A batch that goes back and forth is a mixture, not a switch.
        """
        runs = batch.filled.segments
        current = self.history.segments[-1] if self.history.segments else None
        name = runs[-1][0] if 0 < len(runs) <= 2 else None
        if name is None or name == current:
            return
        if current is not None:
            self._evaluate(full=True, ends_segment=True)
        self.history.segment_started(name)
        self.emit(SegmentStarted(name, len(self.history.segments), self.history.samples))
        self._checkpoint()

    def _evaluate(self, *, full: bool, ends_segment: bool = False) -> None:
        if self.evaluator is None:
            return
        started = time.perf_counter()
        accuracy = self.evaluator.evaluate(self.learner, full, self.stopping)
        seconds = time.perf_counter() - started
        segments = self.history.segments
        current = segments[-1] if segments else None
        samples, visit = self.history.samples, len(segments)
        event = Evaluated(samples, accuracy, full, visit, current, ends_segment, seconds)
        self.emit(event)
        self.emit(self.history.evaluated(event))

    def _account(self, batch: Batch) -> None:
        filled = batch.filled
        self.emit(RecordsReceived(filled.received))
        for reason, count in filled.dead.items():
            self.emit(RecordsDeadLettered(reason, count))
        if filled.lost:
            self.emit(RecordsLost(filled.lost))
        for partition, offset in filled.position.offsets.items():
            self.emit(Lag(partition, offset, max(0, filled.ends.get(partition, offset) - offset)))

    def _checkpoint(self) -> None:
        if self.position is None:
            return  # nothing was taken from the topic yet
        if self.checkpointer is not None and self.take is not None:
            self.checkpointer.take(self.take(self.position))

    def _settle(self) -> None:
        """Before the end: what was learned is on the disk, and the broker told."""
        if self.checkpointer is not None:
            self.checkpointer.settle()
        elif self.position is not None:
            self.feed.commit(self.position)
