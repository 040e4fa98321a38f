"""Rank 0: the feed of its own batches, in rounds with those of the ranks that follow it."""

import copy
import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np

from lethe.errors import BrokerUnavailable, InvalidSetting, PositionLost, RankLost
from lethe.events import Emit, RankRound, RoundLearned
from lethe.ingest.batcher import AcknowledgedDeadLetters, FilledBatch, Start
from lethe.ingest.feed import Batch, FeedMessage
from lethe.ingest.messages import BrokerState
from lethe.learners.capabilities import Pools
from lethe.learners.state import JSON
from lethe.runtime.ranks.group import Group
from lethe.runtime.ranks.interface import LearnedElsewhere, Ranks
from lethe.runtime.ranks.notes import NOTE, OPENING, Command, Note, Opening
from lethe.runtime.ranks.reading import Reading
from lethe.runtime.ranks.round_times import RoundTimes
from lethe.runtime.ranks.shares import Shares
from lethe.settings import Settings
from lethe.stream.consumer import KafkaSource
from lethe.stream.purge import Sharing
from lethe.stream.source import Position

__all__ = ["Leader"]

logger = logging.getLogger("lethe")


class Leader(Ranks):
    """The ranks as rank 0's loop sees them, and its `Feed`.

    A round is one batch of each rank. The loop is passed rank 0's own, and counts the others' at the end of
    the round, in the order of the ranks: their positions are all in one, and so are their receipts. Between
    two rounds nothing is under way, so that what is then pooled, evaluated and saved is the whole.

    Nobody learns before each rank has a batch; a rank that has read its partitions to their ends is not
    waited for, nor, with ``batch.linger``, one that has had nothing to read for so long.
    """

    def __init__(
        self,
        group: Group,
        learner: Pools,
        reading: Reading,
        settings: Settings,
        resumed: Position | None,
        shares: Shares | None,
        sharing: Sharing,
        dead_letter_key: bytes | None,
        segment: str | None,
        emit: Emit,
        *,
        detects: bool,
    ) -> None:
        """Continue at ``resumed``, or begin where the settings say.

        ``detects`` says whether boundaries are looked for, which needs the features of all batches.
        ``segment`` is the one that was read last, and ``sharing`` is for other services on the topic.
        """
        self._group, self._learner, self._reading, self._settings = group, learner, reading, settings
        self._position, self._shares, self._segment = resumed, shares, segment
        self._sharing, self._key = sharing, dead_letter_key
        self._emit, self._times = emit, RoundTimes(group.size)
        self._collective_reported = self._collective_before = 0.0
        self._bytes_reported = 0
        self._detects = detects
        self._own_samples = 0  # learned by this rank in the round
        learner.join(group)
        self._opened = self._in_round = False
        self._boundaries = 0  # of which the others are not notified yet
        self._pooled, self._others = True, 0
        self._notes = [Note()] * group.size
        self._brokers: list[BrokerState | None] = [None] * group.size
        self._reported: list[Mapping[int, int]] = [{}] * group.size
        self._turns = [0] * group.size
        self._messages: deque[FeedMessage] = deque()
        self._until = None if shares is None else shares.until(settings.stream.stop_after)
        if resumed is not None:
            self._check_partitions(resumed)

    @property
    def start(self) -> Start | None:
        """Where learning is; None before the broker was reached for the first time."""
        return None if self._position is None else Start(self._position, self._left(self._position))

    @property
    def stopping(self) -> bool:
        """Whether one of the other ranks was asked to stop."""
        return any(note.stop for note in self._notes)

    # the feed of the loop

    def next(self, timeout: float) -> FeedMessage | None:
        """Return the next message, or rank 0's batch of a round; None if there is none within ``timeout``."""
        if self._messages:
            return self._messages.popleft()
        if not self._opened:
            return self._open(timeout)
        self._wait_for_batches()
        if (message := self._reading.wait(timeout)) is not None:
            return message
        self._take(0, self._reading.note(stop=False))
        if not self._complete:
            self._wait_for_batches()
            self._ask()
            self._wait_for_batches()
        if self._messages:
            return self._messages.popleft()
        return self._batch() if self._complete else None

    def release(self, batch: Batch) -> None:
        """Discard a batch's pixels and free its slot."""
        self._own_samples = batch.filled.samples
        if self._reading.batch is not None:
            self._reading.release(self._reading.batch)

    def commit(self, position: Position, keep: Position | None = None) -> None:
        """Publish how far learning is, in the partitions of all ranks."""
        self._reading.commit(position, keep)

    def pause(self, start: Start | None) -> None:
        """Raise NotImplementedError: only policies require it, and ranks accept none."""
        raise NotImplementedError("several ranks cannot pause")

    def resume(self) -> None:
        """Raise NotImplementedError, as `pause`."""
        raise NotImplementedError("several ranks cannot pause")

    @property
    def resident(self) -> int:
        """Samples whose pixels are in memory, of all ranks."""
        return self._reading.resident + sum(note.resident for note in self._notes[1:])

    @property
    def pid(self) -> int | None:
        """The process id of rank 0's reader; None before it is started."""
        return self._reading.pid

    def close(self) -> None:
        """Stop reading and overwrite every slot."""
        self._reading.close()

    # the other ranks

    def start_round(self) -> None:
        """Let every other rank learn the batch that it has ready."""
        self._times.wait_for((0,))
        if self._learner.refresh_due(self._others):
            self.pool()
            self._group.command(Command.SHARE)
            self._learner.share(refresh=True)
        self._group.command(Command.LEARN)
        self._in_round, self._pooled = True, False
        self._collective_before = self._group.collective_seconds
        self._times.begin_round()

    def end_round(self) -> Sequence[LearnedElsewhere]:
        """Wait until all have learned; return the other ranks' batches of the round, in their order."""
        if not self._own_samples:
            self._learner.skip()
        collective = self._group.collective_seconds - self._collective_before
        own = Note(learning_seconds=self._times.elapsed - collective)
        learned: list[LearnedElsewhere] = []
        for rank, note in self._answers():
            if note.learned is not None:
                self._others += note.learned.filled.samples
                learned.append(replace(note.learned, filled=self._whole(note.learned.filled)))
            self._take(rank, note)
        self._in_round = False
        self._report_round([own, *self._notes[1:]])
        self._notify()
        return learned

    def _report_round(self, notes: Sequence[Note]) -> None:
        """Emit what the ranks did in a round; rank 0's own note has its seconds alone."""
        seconds = self._times.elapsed
        waited_for = self._times.end_round([note.learning_seconds for note in notes])
        collective = self._group.collective_seconds - self._collective_reported
        self._collective_reported = self._group.collective_seconds
        moved = self._group.collective_bytes - self._bytes_reported
        self._bytes_reported = self._group.collective_bytes
        others = [note.learned.filled.samples if note.learned else 0 for note in notes[1:]]
        samples = [self._own_samples, *others]
        self._emit(
            RoundLearned(
                seconds,
                [
                    RankRound(
                        samples=samples[rank],
                        lag=self._lag(rank),
                        learning_seconds=note.learning_seconds,
                        collective_seconds=note.collective_seconds if rank else collective,
                        waited_for_seconds=waited_for[rank],
                    )
                    for rank, note in enumerate(notes)
                ],
                moved,
            )
        )

    def boundary(self) -> None:
        """Let the other ranks' learners be notified of a boundary, at the latest at the end of the round."""
        self._boundaries += 1
        if not self._in_round:
            self._notify()

    def _notify(self) -> None:
        for _ in range(self._boundaries):
            self._group.command(Command.BOUNDARY)
        self._boundaries = 0

    def pool(self) -> None:
        """Let this rank's learner hold what all have learned. Raises RankLost within a round."""
        if self._in_round:
            raise RankLost("a round was interrupted: what the others learned in it is not known")
        if not self._pooled:
            self._group.command(Command.POOL)
            self._learner.pool()
            self._pooled, self._others = True, 0

    def snapshot(self) -> JSON:
        """Return what a checkpoint stores of the ranks; None before the broker was reached."""
        return None if self._shares is None else self._shares.with_turns(self._turns).to_json()

    def finish(self) -> None:
        """Let the other ranks end, with status 0."""
        self._group.command(Command.FINISH)

    def _wait_for_batches(self) -> None:
        """Take note of which ranks the round has to wait for."""
        lacking = [
            rank
            for rank, note in enumerate(self._notes)
            if rank and not (note.ready or note.ended or note.idle)
        ]
        own_lacks = self._reading.batch is None and not self._reading.ended
        self._times.wait_for([0, *lacking] if own_lacks else lacking)

    def _lag(self, rank: int) -> int:
        """Return the number of records in a rank's partitions that are not learned."""
        known = self._known
        return sum(
            max(0, known.ends.get(p, offset) - offset)
            for p, offset in known.offsets.items()
            if p % self._group.size == rank
        )

    def _open(self, timeout: float) -> BrokerState | None:
        """Let all ranks read, from one position; it is the first message of a new run."""
        new = self._position is None
        if self._position is None or self._shares is None:
            try:
                self._position = self._beginning()
            except BrokerUnavailable as error:
                self._ask()  # one of them may have been asked to stop
                time.sleep(timeout)
                return BrokerState(up=False, detail=str(error))
            self._shares = Shares(self._position.offsets)
            self._until = self._shares.until(self._settings.stream.stop_after)
        turns = self._shares.turns if len(self._shares.turns) == self._group.size else ()
        self._turns = list(turns) or self._turns
        opening = Opening(
            position=self._position,
            turns=turns,
            until=self._until,
            keep=self._sharing.keep,
            service=self._sharing.service,
            dead_letter_key=None if self._key is None else self._key.hex(),
            detects=self._detects,
        )
        self._group.command(Command.OPEN)
        self._group.broadcast_bytes(OPENING.dump_json(opening))
        self._reading.open(opening)
        self._learner.share(refresh=False)
        self._opened = True
        logger.info("%d ranks learn %d partitions", self._group.size, len(self._position.offsets))
        return BrokerState(up=True, start=self.start) if new else None

    def _beginning(self) -> Position:
        """Return where a new run begins; raises BrokerUnavailable, InvalidSetting."""
        with closing(KafkaSource(self._settings.stream)) as source:
            position = Position(dict(source.seek({})), 0, source.topic_id, dict(source.ends()))
        self._check_partitions(position)
        return position

    def _check_partitions(self, position: Position) -> None:
        partitions, ranks = len(position.offsets), self._group.size
        if partitions < ranks:
            raise InvalidSetting(
                f"run.ranks: {ranks} ranks need a partition each, topic {self._settings.stream.topic} has "
                f"{partitions}"
            )

    @property
    def _complete(self) -> bool:
        """Whether a round can begin."""
        ready = any(note.ready for note in self._notes)
        return ready and all(note.ready or note.ended or note.idle for note in self._notes)

    def _ask(self) -> None:
        """Ask the other ranks how they stand; each waits a moment for a batch before it answers."""
        self._group.command(Command.WAIT)
        for rank, note in self._answers():
            self._take(rank, note)

    def _answers(self) -> Iterable[tuple[int, Note]]:
        return enumerate(map(NOTE.validate_json, self._group.gather(b"")[1:]), 1)

    def _take(self, rank: int, note: Note) -> None:
        """Take note of how a rank stands, and pass on its news to the loop."""
        self._notes[rank] = note
        if note.dead is not None:
            self._reported[rank] = note.dead.reported
            self._messages.append(AcknowledgedDeadLetters(note.dead.dead, self._all_reported(), rank))
        if note.broker is not None:
            self._brokers[rank] = note.broker
            self._messages.append(self._broker())

    def _broker(self) -> BrokerState:
        """Return how the broker answers all ranks, with the partitions that were added since.

        Raises PositionLost for another topic, InvalidSetting.
        """
        known = self._known
        states = [(rank, state) for rank, state in enumerate(self._brokers) if state is not None]
        offsets, ends = dict(known.offsets), dict(known.ends)
        for _, state in states:
            if state.start is None:
                continue
            theirs = state.start.position
            if None not in (theirs.topic_id, known.topic_id) and theirs.topic_id != known.topic_id:
                raise PositionLost(
                    f"topic {self._settings.stream.topic} was deleted and created anew, and several ranks "
                    "cannot go on with the new one: --fresh starts over"
                )
            added = {p: offset for p, offset in theirs.offsets.items() if p not in offsets}
            if added and self._until is not None:
                raise InvalidSetting(
                    f"stream.stop_after: partitions were added to topic {self._settings.stream.topic}, and "
                    "several ranks had divided the records between the earlier ones"
                )
            offsets |= added
            ends |= theirs.ends
        down = [f"rank {rank}: {state.detail}" for rank, state in states if not state.up]
        waiting = [f"rank {rank}: {state.detail}" for rank, state in states if state.up and state.detail]
        if down:
            return BrokerState(up=False, detail="; ".join(down))
        self._position = Position(offsets, 0, known.topic_id, ends, known.reported)
        return BrokerState(True, "; ".join(waiting), self.start)

    def _batch(self) -> Batch:
        """Return rank 0's batch of the round that begins, with the segments of all; it may have none."""
        if self._until is not None and any(note.skipped for note in self._notes):
            raise InvalidSetting(
                f"stream.stop_after: topic {self._settings.stream.topic} has offsets without records, as "
                "transactions leave them, and several ranks share the records by their offsets"
            )
        segments = self._segments()
        if self._reading.batch is None:
            return _NoBatch(self._known, segments, self._left(self._known))
        batch = copy.copy(self._reading.batch)
        batch.filled = replace(self._whole(batch.filled), segments=segments)
        return batch

    def _segments(self) -> Sequence[tuple[str | None, int]]:
        """Return the segments of the round: its batches are learned at once, so they have no order.

        Samples of the segment that was read last come first.
        """
        counts: Counter[str | None] = Counter()
        for note in self._notes:
            for name, count in note.segments if note.ready else ():
                counts[name] += count
        runs = sorted(counts.items(), key=lambda run: run[0] not in (None, self._segment))
        self._segment = next((name for name, _ in reversed(runs) if name is not None), self._segment)
        return runs

    def _whole(self, filled: FilledBatch) -> FilledBatch:
        """Return a rank's batch with the positions of all partitions, before and after it."""
        before, rank, theirs = self._known, filled.rank, filled.position
        self._turns[rank], self._reported[rank] = theirs.turn, theirs.reported
        self._position = Position(
            {**before.offsets, **theirs.offsets},
            0,
            before.topic_id,
            {**before.ends, **filled.ends},
            self._all_reported(),
        )
        return replace(
            filled,
            first=before.offsets,
            position=self._position,
            ends=self._position.ends,
            left=self._left(self._position),
        )

    @property
    def _known(self) -> Position:
        if self._position is None:
            raise ValueError("no rank can read before rank 0 knows where to begin")
        return self._position

    def _all_reported(self) -> Mapping[int, int]:
        return {p: offset for reported in self._reported for p, offset in reported.items()}

    def _left(self, position: Position) -> int | None:
        """Return the number of offsets from ``position`` to the end of the run."""
        if self._until is None:
            return None
        return sum(max(0, end - position.offsets[p]) for p, end in self._until.items())


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
