"""The loop: one batch is predicted, learned and discarded; what is due is done; then the next."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from service.batching import Start
from service.bulletin import Bulletin
from service.checkpoint import Checkpoint
from service.checkpointer import Checkpointer
from service.drift.watch import Watch
from service.errors import LetheError
from service.evaluation.evaluator import Evaluator, Interrupted
from service.evaluation.history import History
from service.events import Emit, Evaluated, PartitionsAdded, SegmentStarted
from service.feed import Batch, Feed
from service.learners.base import Learner
from service.lesson import Lesson
from service.messages import BrokerState
from service.privacy.receipts import Receipts
from service.stream.source import Position

__all__ = ["Loop"]

WAIT_SECONDS: Final = 0.5
"""Without a batch, the loop turns as often as this, to notice that it shall stop."""
MOST_SEGMENTS: Final = 1000
"""Segments of a run that are told apart; what comes after belongs to the last one."""
PURGE_SECONDS: Final = 2.0
"""How long a service that cannot wait for others waits for the broker to forget what it learned."""
COMMIT_SECONDS: Final = 1.0
"""How often the broker is told how far learning is."""


@dataclass
class Loop:
    """Moves samples from the feed through the learner, each once, and tells what happened.

    ``stopping`` is asked between batches and, during an evaluation, between chunks of a probe.
    ``take`` makes a checkpoint of the run as it is after the last whole turn; ``start`` is where
    the feed begins. With ``apart`` no sample stays in the service during a full evaluation, which
    may last longer than a policy lets a sample wait: the feed was started paused, and what it had
    read ahead goes back to the broker.

    ``watch`` finds boundaries in the stream, and the learner hears of each between two batches;
    with ``oracle`` it hears of the switches that the headers tell instead, for comparison.
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
    receipts: Receipts | None = None
    start: Start | None = None
    apart: bool = False
    watch: Watch | None = None
    oracle: bool = False

    def run(self, ended: bool = False) -> None:
        """Learn until ``stop_after`` is reached, privacy is spent, or ``stopping`` says so.

        ``ended`` tells that it had been reached before the restart. Raises the LetheError that
        makes going on impossible.
        """
        self._committed = time.monotonic()
        self._bulletin = Bulletin(self.emit, self.receipts)
        self._lesson = Lesson(self.learner, self.history, self.emit, self.watch, self.oracle)
        self.rest()  # nothing was let go of while the service was not running
        try:
            if self.history.latest() is None:
                self._evaluate(full=True)  # the untrained learner: row 0 of R
            ended = self._lesson.privacy_spent() or ended
            if self.apart:
                self.feed.resume()
            while not (ended or self.stopping()):
                self._do_what_is_due()
                news = self.feed.next(WAIT_SECONDS)
                if isinstance(news, Batch):
                    self._turn(news)
                    ended = self._lesson.privacy_spent() or news.filled.last
                else:
                    self._bulletin.hear(news, self.start)
                    if isinstance(news, BrokerState) and news.start is not None:
                        self._keep_where_it_begins(news.start)
                self._bulletin.turned(self.feed.resident, self.learner.kept)
            if ended:
                self._do_what_is_due()
                if not self.history.closed:
                    self._evaluate(full=True, ends_segment=bool(self.history.segments))
        except Interrupted:
            pass  # asked to stop while evaluating: the batch at hand is neither learned nor passed
        except LetheError:
            self._checkpoint()  # or a restart began further back, where the broker may have nothing left
            self._settle()
            raise
        self._checkpoint()
        self._settle()
        self._await_purge(ended)

    def rest(self) -> None:
        """While nothing is learned: keep no sample for too long, in memory and on the disk."""
        self._bulletin.stood()
        if self._expire():
            self._checkpoint()
            self._level()

    def _keep_where_it_begins(self, start: Start) -> None:
        """Keep where a run begins, and where other partitions join it, before anything of that is learned.

        A restart must not begin elsewhere, nor the rotation change at another record.
        """
        if self.start is not None:
            added = start.position.offsets.keys() - self.start.position.offsets.keys()
            if not added:
                return
            self.emit(PartitionsAdded(tuple(sorted(added))))
        self.start = start
        self._checkpoint()
        if self.checkpointer is not None:
            self.checkpointer.settle()

    def _turn(self, batch: Batch) -> None:
        if self._notices_switch(batch) and self.apart:
            return  # the batch went back to the broker meanwhile, and comes again
        learned = self._lesson(batch) if batch.filled.samples else None
        learned_at = time.time()
        self.feed.release(batch)
        if self.receipts is not None:
            self.receipts.discarded(batch.filled, learned_at, self.history.samples)
        self._bulletin.account(batch.filled)
        if learned is not None:
            self.emit(learned)
        self.start = Start(batch.filled.position, batch.filled.left)

    def _expire(self) -> bool:
        """Have the learner let go of what it may keep no longer; tell whether that was anything."""
        if self.receipts is None or self.start is None:
            return False
        return self.receipts.expire(self.learner, self.history.samples, self.start.position)

    def _do_what_is_due(self) -> None:
        self._expire()
        every, now = self.evaluate_every, self.history.samples
        if now // every != self.history.evaluated_at // every:
            self._evaluate(full=False)
        if self.checkpointer is not None:
            self.checkpointer.poll()
            if self.checkpointer.due(now):
                self._checkpoint()
        elif self.start is not None and time.monotonic() - self._committed >= COMMIT_SECONDS:
            self._committed = time.monotonic()
            self.feed.commit(self.start.position)

    def _notices_switch(self, batch: Batch) -> bool:
        """Close a segment before the first batch with a sample of the next one is learned; tell if so.

        A batch that goes back and forth is a mixture, not a switch.
        """
        names = [name for name, _ in batch.filled.segments]
        if not 0 < len(names) <= 2 or names[-1] in (None, self._segment):
            return False
        if len(self.history.segments) >= MOST_SEGMENTS:
            return False  # whoever writes to the topic names them: R must not grow for ever
        evaluated = False
        for name in names:
            if name is None or name == self._segment:
                continue
            if self._segment is not None:
                self._evaluate_apart()
                evaluated = True
                if self.oracle:
                    self.learner.boundary()
            self.history.segment_started(name)
            self.emit(SegmentStarted(name, len(self.history.segments), self.history.samples))
            if evaluated and not self.stopping():  # the last one follows at once, and each may take seconds
                self._checkpoint()
        return evaluated

    @property
    def _segment(self) -> str | None:
        """The segment being learned."""
        return self.history.segments[-1] if self.history.segments else None

    def _evaluate_apart(self) -> None:
        """Close a segment; where residency is bounded, while no sample is in the service."""
        if self.apart:
            self.feed.pause(self.start)
        self._evaluate(full=True, ends_segment=True)
        if self.apart:
            self.feed.resume()

    def _evaluate(self, *, full: bool, ends_segment: bool = False) -> None:
        if self.evaluator is None:
            return
        started = time.perf_counter()
        readings = self.evaluator.evaluate(self.learner, full, self.stopping)
        seconds = time.perf_counter() - started
        samples, visit = self.history.samples, len(self.history.segments)
        event = Evaluated(samples, readings, full, visit, self._segment, ends_segment, seconds)
        self.emit(event)
        self.emit(self.history.evaluated(event))

    def _checkpoint(self) -> None:
        if self.start is None:
            return  # nothing was taken from the topic yet
        if self.checkpointer is not None and self.take is not None:
            self.checkpointer.settle()  # first, or two copies of the learner would be held at once
            self.checkpointer.take(self.take(self.start.position))

    def _await_purge(self, ended: bool) -> None:
        """Where the policy asks for it, stay until the broker has forgotten what was learned.

        Others may still need it: at the end of the stream they are waited for until the policy's time
        is up, otherwise for a few seconds. Then a restart goes on with it.
        """
        unpurged = None if self.receipts is None else self.receipts.unpurged
        if unpurged is None or self.start is None or self.checkpointer is None or self.checkpointer.failure:
            return
        self.feed.pause(self.start)  # nothing more is read
        if self._level():
            self.feed.commit(self.start.position)
        began = time.monotonic()
        while (lag := unpurged.lag()).records:
            hurried = lag.overdue or not ended or self.stopping()
            if hurried and time.monotonic() - began > PURGE_SECONDS:
                break
            news = self.feed.next(WAIT_SECONDS)
            if not isinstance(news, Batch):  # what was on its way when reading was paused is void
                self._bulletin.hear(news, self.start)
            self._bulletin.turned(self.feed.resident, self.learner.kept)
        self._checkpoint()  # it holds the receipts of the purge
        self._settle()

    def _level(self) -> bool:
        """Leave no older checkpoint than the newest; tell whether that is so."""
        if self.checkpointer is None or not self.checkpointer.level():
            return False
        if self.receipts is not None and self.receipts.kept is not None:
            self.receipts.kept.levelled()
        return True

    def _settle(self) -> None:
        """Before the end: what was learned is on the disk, and the broker told."""
        if self.checkpointer is not None:
            self.checkpointer.settle()
        elif self.start is not None:
            self.feed.commit(self.start.position)
