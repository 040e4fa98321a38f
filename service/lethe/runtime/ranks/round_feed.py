"""Rank 0's own batches, each given out when every rank has one: a round can begin."""

import copy
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np

from lethe.errors import BrokerUnavailable, InvalidSetting, LetheError
from lethe.ingest.batcher import AcknowledgedDeadLetters, FilledBatch, Start
from lethe.ingest.feed import Batch, FeedMessage
from lethe.ingest.late_labels import labels_stream
from lethe.ingest.messages import BrokerState, IncompleteBatchDiscarded
from lethe.learners.capabilities import Pools
from lethe.runtime.ranks.group import Group
from lethe.runtime.ranks.notes import NOTE, OPENING, PAUSE, Command, Note, Opening, Pause
from lethe.runtime.ranks.progress import Mark, Progress
from lethe.runtime.ranks.reading import Reading
from lethe.runtime.ranks.round_times import RoundTimes
from lethe.settings import Settings
from lethe.stream.consumer import KafkaSource
from lethe.stream.purge import Sharing
from lethe.stream.source import Position

__all__ = ["RoundFeed"]

logger = logging.getLogger("lethe")


class RoundFeed:
    """The `Feed` of the loop that leads the ranks.

    Nobody learns before each rank has a batch; a rank that has read its partitions to their ends is not
    waited for, nor, with ``batch.linger``, one that has had nothing to read for so long. Then the loop gets
    rank 0's batch, or one without samples if only others have any.
    """

    def __init__(
        self,
        group: Group,
        learner: Pools,
        reading: Reading,
        settings: Settings,
        progress: Progress,
        times: RoundTimes,
        sharing: Sharing,
        dead_letter_key: bytes | None,
        segment: str | None,
        *,
        detects: bool,
        paused: bool,
    ) -> None:
        """``segment`` is the one that was read last, ``sharing`` is for other services on the topic.

        ``detects`` says whether boundaries are looked for, which needs the features of all batches; with
        ``paused`` it starts as after `pause`.
        """
        self._group, self._learner, self._reading, self._settings = group, learner, reading, settings
        self._progress, self._times, self._segment = progress, times, segment
        self._sharing, self._key, self._detects = sharing, dead_letter_key, detects
        self._opened, self._paused = False, paused
        self._before: tuple[Mark, str | None] | None = None  # a batch that was given out and is not learned
        self._brokers: list[BrokerState | None] = [None] * group.size
        self._messages: deque[FeedMessage] = deque()
        self._failure: LetheError | None = None  # of the reader, in mid-round
        self.notes = [Note()] * group.size
        """How each rank stood when it last said so."""
        self.own_samples = 0
        """Samples that rank 0 has learned in the round."""

    def next(self, timeout: float) -> FeedMessage | None:
        """Return the next message, or rank 0's batch of a round; None if there is none within ``timeout``."""
        if self._messages:
            return self._messages.popleft()
        if self._failure is not None:
            raise self._failure
        if not self._opened:
            return self._open(timeout)
        self._wait_for_batches()
        if (message := self._reading.wait(timeout)) is not None:
            return message
        self.take(0, self._reading.note(stop=False))
        if not self._complete:
            self._wait_for_batches()
            self._ask()
            self._wait_for_batches()
        if self._messages:
            return self._messages.popleft()
        return self._batch() if self._complete else None

    def prepare(self) -> None:
        """Compute features of rank 0's next batch, if it is there, while others still learn in this round."""
        try:
            message = self._reading.wait(0.0)
        except LetheError as error:
            self._failure = error  # raised by `next`, when what the others learned is known
            return
        if message is not None:
            self._messages.append(message)
        self._reading.prepare(self._learner)

    def release(self, batch: Batch) -> None:
        """Discard a batch's pixels and free its slot."""
        self.own_samples, self._before = batch.filled.samples, None
        if self._reading.batch is not None:
            self._reading.release(self._reading.batch)

    def commit(self, position: Position, keep: Position | None = None) -> None:
        """Publish how far learning is, in the partitions of all ranks."""
        self._reading.commit(position, keep)

    def pause(self, start: Start | None) -> None:
        """Let every rank discard its batches and read nothing until `resume`, then again what is not learned.

        It returns when all have done so. What is learned is known here: ``start`` is the same.
        """
        del start
        self._paused = True
        if self._before is not None:
            mark, self._segment = self._before
            self._progress.rewind(mark)
            self._before = None
        if self._opened:
            pause = Pause(self._progress.position, self._progress.turns)
            self._group.command(Command.PAUSE)
            self._group.broadcast_bytes(PAUSE.dump_json(pause))
            self._reading.pause(pause)
            self.take(0, self._reading.note(stop=False))
            for rank, note in self.answers():
                self.take(rank, note)

    def resume(self) -> None:
        """Continue to read after a pause."""
        self._paused = False
        if self._opened:
            self._group.command(Command.RESUME)
            self._reading.resume()

    @property
    def resident(self) -> int:
        """Samples whose pixels are in memory, of all ranks."""
        return self._reading.resident + sum(note.resident for note in self.notes[1:])

    @property
    def pids(self) -> Sequence[int]:
        """The processes that read for rank 0; none before they are started."""
        return self._reading.pids

    def close(self) -> None:
        """Stop reading and overwrite every slot."""
        self._reading.close()

    def answers(self, meanwhile: Callable[[], object] = lambda: None) -> Iterable[tuple[int, Note]]:
        """Return the notes with which the other ranks answer, by rank; do ``meanwhile`` before waiting."""
        return enumerate(map(NOTE.validate_json, self._group.gather(b"", meanwhile)[1:]), 1)

    def take(self, rank: int, note: Note) -> None:
        """Take note of how a rank stands, and pass on its news to the loop."""
        self.notes[rank] = note
        if note.dead is not None:
            reported = self._progress.report(rank, note.dead.reported)
            self._messages.append(AcknowledgedDeadLetters(note.dead.dead, reported, rank))
        if note.returned:
            self._messages.append(IncompleteBatchDiscarded(note.returned))
        if note.broker is not None:
            self._brokers[rank] = note.broker
            self._messages.append(self._broker())

    def _wait_for_batches(self) -> None:
        """Take note of which ranks the round has to wait for."""
        lacking = [
            rank
            for rank, note in enumerate(self.notes)
            if rank and not (note.ready or note.ended or note.idle)
        ]
        own_lacks = self._reading.batch is None and not self._reading.ended
        self._times.wait_for([0, *lacking] if own_lacks else lacking)

    def _open(self, timeout: float) -> BrokerState | None:
        """Let all ranks read, from one position; it is the first message of a new run."""
        progress, new = self._progress, self._progress.start is None
        if not progress.begun:
            try:
                self._begin()
            except BrokerUnavailable as error:
                self._ask()  # one of them may have been asked to stop
                time.sleep(timeout)
                return BrokerState(up=False, detail=str(error))
        opening = Opening(
            position=progress.position,
            turns=progress.take_turns(),
            until=progress.until,
            keep=self._sharing.keep,
            service=self._sharing.service,
            dead_letter_key=None if self._key is None else self._key.hex(),
            detects=self._detects,
            paused=self._paused,
        )
        self._group.command(Command.OPEN)
        self._group.broadcast_bytes(OPENING.dump_json(opening))
        self._reading.open(opening)
        self._opened = True
        logger.info("%d ranks learn %d partitions", self._group.size, len(progress.position.offsets))
        return BrokerState(up=True, start=progress.start) if new else None

    def _begin(self) -> None:
        """Find out where a new run begins; raises BrokerUnavailable, InvalidSetting."""
        settings = self._settings
        labels: dict[int, int] = {}
        if settings.labels.topic:
            with closing(KafkaSource(labels_stream(settings.stream, settings.labels))) as late:
                labels = dict(late.seek({}))
        with closing(KafkaSource(settings.stream)) as source:
            begins, ends = dict(source.seek({})), dict(source.ends())
            self._progress.begin(Position(begins, 0, source.topic_id, ends, labels=labels))

    @property
    def _complete(self) -> bool:
        """Whether a round can begin."""
        ready = any(note.ready for note in self.notes)
        return ready and all(note.ready or note.ended or note.idle for note in self.notes)

    def _ask(self) -> None:
        """Ask the other ranks how they stand; each waits a moment for a batch before it answers."""
        self._group.command(Command.WAIT)
        for rank, note in self.answers():
            self.take(rank, note)

    def _broker(self) -> BrokerState:
        """Return how the broker answers all ranks; raises the errors of `Progress.update_topic`."""
        states = [(rank, state) for rank, state in enumerate(self._brokers) if state is not None]
        for _, state in states:
            if state.start is not None:
                self._progress.update_topic(state.start.position)
        down = [f"rank {rank}: {state.detail}" for rank, state in states if not state.up]
        waiting = [f"rank {rank}: {state.detail}" for rank, state in states if state.up and state.detail]
        if down:
            return BrokerState(up=False, detail="; ".join(down))
        return BrokerState(True, "; ".join(waiting), self._progress.start)

    def _batch(self) -> Batch:
        """Return rank 0's batch of the round that begins, with the segments of all; it may have none."""
        progress = self._progress
        if progress.until is not None and any(note.skipped for note in self.notes):
            raise InvalidSetting(
                f"stream.stop_after: topic {self._settings.stream.topic} has offsets without records, as "
                "transactions leave them, and several ranks share the records by their offsets"
            )
        self._before = (progress.mark(), self._segment)
        segments = self._segments()
        if self._reading.batch is None:
            return _NoBatch(progress.position, segments, progress.left(progress.position))
        batch = copy.copy(self._reading.batch)
        batch.filled = replace(progress.whole(batch.filled), segments=segments)
        return batch

    def _segments(self) -> Sequence[tuple[str | None, int]]:
        """Return the segments of the round: its batches are learned at once, so they have no order.

        Samples of the segment that was read last come first.
        """
        counts: Counter[str | None] = Counter()
        for note in self.notes:
            for name, count in note.segments if note.ready else ():
                counts[name] += count
        runs = sorted(counts.items(), key=lambda run: run[0] not in (None, self._segment))
        self._segment = next((name for name, _ in reversed(runs) if name is not None), self._segment)
        return runs


class _NoBatch(Batch):
    """Rank 0's part of a round in which only others have a batch."""

    def __init__(
        self, position: Position, segments: Sequence[tuple[str | None, int]], left: int | None
    ) -> None:
        self.x_BCHW, self.y_B = np.empty((0, 0, 0, 0), np.uint8), np.empty(0, np.int64)
        self.filled = FilledBatch(
            slot=0,
            samples=0,
            first=position.offsets,
            position=position,
            received=0,
            dead={},
            lost=0,
            skipped=0,
            segments=segments,
            arrived=time.monotonic(),
            produced=time.time(),
            ends=position.ends,
            left=left,
        )

    def discard(self) -> int:
        """Return 0: there are no pixels."""
        return 0
