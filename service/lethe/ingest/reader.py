"""The reader process: reads over one broker connection, reopened after every temporary failure."""

import logging
import math
import os
import signal
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Final

from lethe.errors import BrokerUnavailable, InvalidSetting, LetheError, PositionLost
from lethe.ingest.batcher import Batcher, Start
from lethe.ingest.decoding.decoders import Decoders
from lethe.ingest.decoding.time_limit import decoding_seconds
from lethe.ingest.late_labels import (
    NO_LABELS,
    WHY_OWN_PARTITIONS,
    LateLabels,
    NoLateLabels,
    labels_stream,
)
from lethe.ingest.messages import (
    BrokerState,
    Commit,
    CommitState,
    IncompleteBatchDiscarded,
    Pause,
    ReaderTask,
    Resume,
)
from lethe.ingest.read_ahead import READ_AHEAD_RECORDS
from lethe.ingest.scrubbing import disable_core_dumps
from lethe.ingest.slots import INCOMPLETE_SHARE, Slots
from lethe.stream.consumer import KafkaSource
from lethe.stream.dead_letters import DeadLetters
from lethe.stream.purge import Purger
from lethe.stream.source import Position

__all__ = ["read_stream"]

RECORD_SECONDS: Final = 0.2
"""Longest wait for a record, so that the parent's messages are received soon."""
LABEL_SECONDS: Final = 0.02
"""The same while a record waits for its label, which may come at any time."""
IDLE_SECONDS: Final = 2.0
"""Interval of checks of the connection while no record arrives."""
REJECTED_SECONDS: Final = 8.0
"""Commits rejected for this long are reported; a group's coordinator may need seconds to start."""
BACKOFF_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Delays between attempts to connect; the last one repeats."""


def read_stream(
    connection: Connection, slots: Slots, task: ReaderTask, decoders: Decoders | None = None
) -> None:
    """Run in the child process until its parent closes ``connection``, then exit."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to both; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if task.no_core_dumps:
        disable_core_dumps()
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # outages are reported once, as BrokerState
    reader = _Reader(connection, slots, task, decoders)
    try:
        with suppress(EOFError, ConnectionError):  # the parent has ended or closed the feed
            reader.run()
    except LetheError as error:
        with suppress(ConnectionError):  # the parent may have ended
            connection.send(error)
    finally:
        reader.close()
    os._exit(0)  # the service waits for the exit, and finalizing the interpreter is slow


class _Reader:
    """Fills free slots and reports the state of the broker."""

    def __init__(
        self, connection: Connection, slots: Slots, task: ReaderTask, decoders: Decoders | None
    ) -> None:
        self._connection, self._slots, self._decoders = connection, slots, decoders
        self._stream, self._batch, self._layout = task.stream, task.batch, task.layout
        self._position, self._left = task.position, task.stream.stop_after
        self._residency, self._paused, self._epoch = task.residency, task.paused, 0
        self._segments, self._until = task.segments, task.until
        self._origin_headers, self._names, self._unlabelled = (
            task.origin_headers,
            task.names,
            task.unlabelled,
        )
        self._ahead = READ_AHEAD_RECORDS
        self._late: NoLateLabels = NO_LABELS
        if task.late is not None:
            self._ahead = task.late.pending
            labels = labels_stream(task.stream, task.late)
            self._late = LateLabels(
                lambda: KafkaSource(labels),
                task.late.wait,
                task.late.pending,
                own_partitions=task.stream.world > 1,
            )
        self._awaiting_batch = False
        """An incomplete batch was discarded: nothing is read until the broker has a whole one."""
        self._malformed = 0
        """Malformed records in the batch that was discarded."""
        self._exhausted: tuple[Mapping[int, int], Mapping[int, int]] | None = None
        """Offsets and ends between which all records were read and are not a whole batch."""
        self._discarded: tuple[Mapping[int, int], int] = ({}, 0)
        """Where the discarded batch begins, and how often in a row it was discarded."""
        self._purger = Purger(task.stream, task.sharing)
        self._purge_at = self._check_at = 0.0
        self._source: KafkaSource | None = None
        self._batcher: Batcher | None = None
        reported = None if task.position is None else task.position.reported
        self._dead_letters = DeadLetters(task.stream, task.dead_letter_key, reported)
        self._free: deque[int] = deque()  # the first one is being filled
        self._up: bool | None = None
        self._reason = ""
        """Of the outage that was reported last; empty while the broker is up."""
        self._failures = 0
        self._commit_failure = ""
        self._rejected_since = math.inf
        self._last_record_at = time.monotonic()

    def run(self) -> None:
        """Fill slots until the parent closes the connection."""
        while True:
            self._receive(0 if self._free and not self._ended and not self._paused else 0.5)
            try:
                self._step()
            except BrokerUnavailable as error:
                self._report_change(BrokerState(up=False, detail=str(error)))
                self._disconnect()
                self._receive(BACKOFF_SECONDS[min(self._failures, len(BACKOFF_SECONDS) - 1)])
                self._failures += 1

    @property
    def _ended(self) -> bool:
        return self._batcher is not None and self._batcher.ended

    def _step(self) -> None:
        source, batcher = self._open()
        if time.monotonic() >= self._check_at:
            self._check_at = time.monotonic() + IDLE_SECONDS
            if source.grown() or self._late.grown:
                self._disconnect()  # the next connection reads the added partitions, too
                source, batcher = self._open()
            self._check_commits(source)
        if time.monotonic() >= self._purge_at:
            self._purge(source)
        if self._residency is not None and self._late.held > INCOMPLETE_SHARE * self._residency:
            self._late.release()
        if self._paused or self._ended:
            return
        if not self._free:
            if self._is_overdue(batcher):
                self._discard_incomplete(batcher, 1)
            return
        if self._awaiting_batch and not self._has_whole_batch(source, batcher):
            return
        awaits_label = batcher.awaits_label
        if awaits_label:
            self._late.poll()
        filled = batcher.fill(self._free[0], timeout=LABEL_SECONDS if awaits_label else RECORD_SECONDS)
        if filled is not None:
            self._free.popleft()
            self._connection.send((self._epoch, filled))
            self._last_record_at = time.monotonic()
            self._report_change(BrokerState(up=True))
            return
        if (dead_letters := batcher.flush_dead_letters()) is not None:
            self._connection.send((self._epoch, dead_letters))
        if time.monotonic() - self._last_record_at > IDLE_SECONDS:
            self._last_record_at = time.monotonic()
            self._report(source, batcher)
        if self._is_overdue(batcher):
            self._await_whole_batch(source, batcher)

    def _is_overdue(self, batcher: Batcher) -> bool:
        return self._residency is not None and batcher.waited > INCOMPLETE_SHARE * self._residency

    def _await_whole_batch(self, source: KafkaSource, batcher: Batcher) -> None:
        """Discard an incomplete batch that is overdue, and read no more until the broker has all of it."""
        self._awaiting_batch, self._malformed = True, batcher.malformed
        self._slots.discard(self._free[0])
        ends, reached = source.known_ends(), source.reached()
        here = batcher.start.position.offsets
        self._exhausted = (here, ends) if all(reached[p] >= end for p, end in ends.items()) else None
        offsets, times = self._discarded
        again = offsets == here and self._exhausted is None
        self._discard_incomplete(batcher, times + 1 if again else 1)

    def _discard_incomplete(self, batcher: Batcher, times: int) -> None:
        self._discarded = (batcher.start.position.offsets, times)
        self._connection.send(IncompleteBatchDiscarded(times))
        self._read_from(batcher.start)

    def _has_whole_batch(self, source: KafkaSource, batcher: Batcher) -> bool:
        """Return whether the broker has a whole batch; asks it once a second at most."""
        if time.monotonic() - self._last_record_at < 1.0:
            self._receive(0.2)
            return False
        self._last_record_at = time.monotonic()
        ends = source.ends()
        exhausted = self._exhausted == (batcher.start.position.offsets, ends)
        self._awaiting_batch = exhausted or not batcher.fills(ends, self._malformed)
        return not self._awaiting_batch

    def _rewind(self, pause: Pause) -> None:
        """Overwrite every slot; records that were read ahead are read again."""
        self._slots.discard_all()
        self._late.release()
        if self._residency is not None and self._source is not None:
            self._source.close()  # and free what it has fetched: a pause may be long
            self._source = None
        self._free = deque(range(self._batch.slots))
        self._epoch = pause.epoch
        self._drop_batcher()
        if pause.start is not None:
            self._position, self._left = pause.start.position, pause.start.left

    def _read_from(self, start: Start) -> None:
        self._position, self._left = start.position, start.left
        self._drop_batcher()

    def _drop_batcher(self) -> None:
        """Forget the records that wait for their turn, and overwrite the images that were decoded."""
        self._batcher, self._slots.queued = None, 0
        if self._decoders is not None:
            self._decoders.discard()

    def _purge(self, source: KafkaSource) -> None:
        """Purge; try again soon while other services delay it, else after the next commit."""
        purged = self._purger.purge(source)
        self._purge_at = math.inf
        if purged is not None:
            self._connection.send(purged)
            if self._purger.is_incomplete(purged):
                self._purge_at = time.monotonic() + self._purger.retry_seconds

    def _open(self) -> tuple[KafkaSource, Batcher]:
        connected = self._source is None
        if self._source is None:
            self._source = KafkaSource(self._stream)
        if self._batcher is None:
            position = self._resumed(self._source)
            if position is None:
                self._late.read_from({})
            else:
                self._late.read_from(position.labels, position.labels_settled)
            self._check_partitions_of_labels(self._source)
            self._batcher = Batcher(
                self._source,
                self._dead_letters,
                self._slots,
                self._layout,
                self._batch,
                position,
                self._left,
                segments=self._segments,
                decoding_seconds=decoding_seconds(self._residency),
                until=self._until,
                origin_headers=self._origin_headers,
                names=self._names,
                unlabelled=self._unlabelled,
                late=self._late,
                ahead=self._ahead,
                decoders=self._decoders,
            )
            if connected:
                self._purger.publish_start(self._source, self._batcher.start.position.offsets)
                self._purge_at = 0.0
            self._report(self._source, self._batcher)
        return self._source, self._batcher

    def _check_partitions_of_labels(self, source: KafkaSource) -> None:
        """Raise InvalidSetting if others read a share of the stream, and not the same one of the labels."""
        if self._late is NO_LABELS or self._stream.world == 1:
            return
        if list(self._late.partitions) != list(source.partitions):
            raise InvalidSetting(
                f"labels.topic: its partitions {list(self._late.partitions)} are read with those of samples "
                f"{list(source.partitions)}: {WHY_OWN_PARTITIONS}"
            )

    def _report(self, source: KafkaSource, batcher: Batcher) -> None:
        """Report the broker's state with the start of the batch being filled."""
        position = replace(batcher.start.position, ends=batcher.readable(source.ends()))
        self._up, self._reason, self._failures = True, "", 0
        self._connection.send(BrokerState(True, batcher.stalled, Start(position, batcher.start.left)))

    def _resumed(self, source: KafkaSource) -> Position | None:
        """Return where to continue, after checking that this is still the same topic."""
        given = self._position
        if given is None or given.topic_id is None or source.topic_id in (None, given.topic_id):
            return given
        gone = (
            f"topic {self._stream.topic} was deleted and created anew: at least {given.ahead} samples of "
            f"the old one are gone, from offsets {dict(given.offsets)} (by partition) to its last known end"
        )
        if not self._stream.accept_loss:
            raise PositionLost(f"{gone}; --accept-loss starts with the new topic")
        self._connection.send(BrokerState(True, gone))
        self._purger.reset()
        self._dead_letters.reported.clear()
        return Position(
            source.starts(),
            0,
            source.topic_id,
            classes=given.classes,
            labels=given.labels,
            labels_settled=given.labels_settled,
        )

    def _receive(self, timeout: float) -> None:
        """Receive the parent's messages. Raises EOFError when it has closed the connection."""
        while self._connection.poll(timeout):
            message = self._connection.recv()
            match message:
                case Commit():
                    self._commit(message)
                case Pause():
                    self._paused = True
                    self._rewind(message)
                case Resume():
                    self._paused = False
                case (epoch, slots):
                    if epoch == self._epoch:  # else a pause has freed them
                        self._free.extend(slots)
            timeout = 0

    def _disconnect(self) -> None:
        """Close the connection; the next one checks that the topic is still the same."""
        if self._batcher is not None:
            if self._free:
                self._slots.discard(self._free[0])
            self._read_from(self._batcher.start)
        if self._source is not None:
            if self._position is not None:  # to know how much is lost if the topic is deleted
                known = {p: end for p, end in self._source.known_ends().items() if end}
                self._position = replace(self._position, ends={**self._position.ends, **known})
            self._source.close()
            self._source = None
        self._late.close()

    def _commit(self, commit: Commit) -> None:
        here = self._position if self._source is None else self._source
        if here is not None and commit.position.topic_id != here.topic_id:
            return  # offsets of a topic that was deleted meanwhile
        self._purger.record_progress(commit.position.offsets, (commit.keep or commit.position).offsets)
        self._purge_at = 0.0
        if self._source is None:
            return  # the next connection publishes it
        self._purger.publish(self._source)

    def _check_commits(self, source: KafkaSource) -> None:
        """Report a change in whether the broker accepts commits, and repeat a rejected one."""
        failure = source.commits.failure
        if failure:
            self._purger.publish(source)
        now = time.monotonic()
        self._rejected_since = min(self._rejected_since, now) if failure else math.inf
        lasting = failure if now - self._rejected_since >= REJECTED_SECONDS else ""
        if lasting != self._commit_failure:
            self._commit_failure = lasting
            self._connection.send(CommitState(lasting))

    def _report_change(self, state: BrokerState) -> None:
        if state.up:
            self._failures = 0
        if (state.up, state.detail) != (self._up, self._reason):
            self._connection.send(state)
            self._up, self._reason = state.up, state.detail

    def close(self) -> None:
        self._dead_letters.close()
        self._late.close()
        if self._source is not None:
            self._source.close()
