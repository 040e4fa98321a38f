"""The child's side of the feed: one broker connection, opened again after every failure that may pass."""

import logging
import math
import os
import signal
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Final

from service.batching import Batcher, Start
from service.errors import BrokerUnavailable, LetheError, PositionLost
from service.messages import BrokerState, Commit, Pause, Resume, Task
from service.slots import Slots
from service.stream.broker import KafkaSource
from service.stream.deadletter import DeadLetters
from service.stream.purge import Purger
from service.stream.source import Position

__all__ = ["feed"]

PROBE_SECONDS: Final = 2.0
"""With no record for so long, the broker is asked whether it is there."""
PURGE_SECONDS: Final = 2.0
"""How often a purge that others hold up is tried again."""
PATIENCE: Final = 0.5
"""Share of the longest residency after which what is in no complete batch goes back to the broker."""
BACKOFF_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses between attempts to reach a broker; the last one repeats."""


def feed(connection: Connection, slots: Slots, task: Task) -> None:
    """Run the child process until its parent closes the connection, and end it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to both: the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # outages are reported once, as BrokerState
    feeder = _Feeder(connection, slots, task)
    try:
        with suppress(EOFError, ConnectionError):  # the parent is gone or wants no more
            feeder.run()
    except LetheError as error:
        with suppress(ConnectionError):  # the parent may be gone by now
            connection.send(error)
    finally:
        feeder.close()
    os._exit(0)  # at once: a service that is asked to stop waits, and taking the interpreter down is slow


class _Feeder:
    """Reads, batches and reports, as far as free slots and the broker allow."""

    def __init__(self, connection: Connection, slots: Slots, task: Task) -> None:
        self._connection, self._slots = connection, slots
        self._stream, self._batch, self._layout = task.stream, task.batch, task.layout
        self._position, self._left = task.position, task.stream.stop_after
        self._residency, self._paused, self._epoch = task.residency, task.paused, 0
        self._awaiting = False  # a whole batch: what came of the last one went back to the broker
        self._purger = Purger(task.stream, task.sharing)
        self._purge_at = self._look_at = 0.0
        self._source: KafkaSource | None = None
        self._batcher: Batcher | None = None
        self._dead_letters = DeadLetters(task.stream)
        self._free: deque[int] = deque()  # the first one is being filled, and stays the first
        self._up: bool | None = None
        self._failures = 0
        self._heard = time.monotonic()

    def run(self) -> None:
        """Fill slots until the run ends or the parent goes."""
        while True:
            self._listen(0 if self._free and not self._ended and not self._paused else 0.5)
            try:
                self._turn()
            except BrokerUnavailable as error:
                self._say(BrokerState(up=False, detail=str(error)))
                self._let_go()
                self._listen(BACKOFF_SECONDS[min(self._failures, len(BACKOFF_SECONDS) - 1)])
                self._failures += 1

    @property
    def _ended(self) -> bool:
        return self._batcher is not None and self._batcher.ended

    def _turn(self) -> None:
        source, batcher = self._open()
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + PROBE_SECONDS
            if source.grown():
                self._let_go()  # the next connection reads the others, too
                source, batcher = self._open()
        if time.monotonic() >= self._purge_at:
            self._purge(source)
        if self._paused or self._ended:
            return
        if not self._free:
            if self._waited_too_long(batcher):
                self._read_from(batcher.start)
            return
        if self._awaiting and not self._enough(source, batcher):
            return
        filled = batcher.fill(self._free[0], timeout=0.2)
        if filled is not None:
            self._free.popleft()
            self._connection.send((self._epoch, filled))
            self._heard = time.monotonic()
            self._say(BrokerState(up=True))
            return
        if time.monotonic() - self._heard > PROBE_SECONDS:
            self._heard = time.monotonic()
            self._report(source, batcher)
        if self._waited_too_long(batcher):
            self._give_up(batcher)

    def _waited_too_long(self, batcher: Batcher) -> bool:
        return self._residency is not None and batcher.waited > PATIENCE * self._residency

    def _give_up(self, batcher: Batcher) -> None:
        """Let go of an incomplete batch whose samples have waited long enough: the broker has them."""
        self._awaiting = True
        self._slots.discard(self._free[0])
        self._read_from(batcher.start)

    def _enough(self, source: KafkaSource, batcher: Batcher) -> bool:
        """Tell whether the broker has a whole batch now; asked once a second at most."""
        if time.monotonic() - self._heard < 1.0:
            self._listen(0.2)
            return False
        self._heard = time.monotonic()
        self._awaiting = not batcher.fills(source.ends())
        return not self._awaiting

    def _rewind(self, pause: Pause) -> None:
        """Overwrite every slot; what was read ahead is read again."""
        self._slots.discard_all()
        if self._residency is not None and self._source is not None:
            self._source.close()  # with what it has fetched: a pause may be long
            self._source = None
        self._free = deque(range(self._batch.slots))
        self._epoch = pause.epoch
        if pause.start is not None:
            self._read_from(pause.start)
        else:
            self._batcher = None

    def _read_from(self, start: Start) -> None:
        self._position, self._left = start.position, start.left
        self._batcher, self._slots.queued = None, 0

    def _purge(self, source: KafkaSource) -> None:
        """Have deleted what nobody needs; again soon while others hold it up, else after the next commit."""
        purged = self._purger.purge(source)
        self._purge_at = math.inf
        if purged is not None:
            self._connection.send(purged)
            if self._purger.owes(purged):
                self._purge_at = time.monotonic() + PURGE_SECONDS

    def _open(self) -> tuple[KafkaSource, Batcher]:
        connected = self._source is None
        if self._source is None:
            self._source = KafkaSource(self._stream)
        if self._batcher is None:
            self._batcher = Batcher(
                self._source,
                self._dead_letters,
                self._slots,
                self._layout,
                self._batch,
                self._resumed(self._source),
                self._left,
            )
            if connected:
                self._purger.announce(self._source, self._batcher.start.position.offsets)
                self._purge_at = 0.0
            self._report(self._source, self._batcher)
        return self._source, self._batcher

    def _report(self, source: KafkaSource, batcher: Batcher) -> None:
        """Say where reading stands, although nothing may be there to be read."""
        position = replace(batcher.start.position, ends=source.ends())
        self._up, self._failures = True, 0
        self._connection.send(BrokerState(True, batcher.stalled, Start(position, batcher.start.left)))

    def _resumed(self, source: KafkaSource) -> Position | None:
        """Return where to go on, once it is sure that this is still the same topic."""
        given = self._position
        if given is None or given.topic_id is None or source.topic_id in (None, given.topic_id):
            return given
        gone = (
            f"topic {self._stream.topic} was deleted and created anew: with it at least {given.ahead} "
            f"samples from offsets {dict(given.offsets)} (by partition) on are gone, as many as there "
            "were when it was last seen"
        )
        if not self._stream.accept_loss:
            raise PositionLost(f"{gone}; --accept-loss starts with the new topic")
        self._connection.send(BrokerState(True, gone))
        return Position(source.starts(), 0, source.topic_id)

    def _listen(self, timeout: float) -> None:
        """Take free slots and positions from the parent. Raises EOFError when it is gone."""
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
                    if epoch == self._epoch:  # or they were reclaimed by a pause
                        self._free.extend(slots)
            timeout = 0

    def _let_go(self) -> None:
        """Close the connection: the next one makes sure that the topic is still the same."""
        if self._batcher is not None:
            if self._free:
                self._slots.discard(self._free[0])
            self._read_from(self._batcher.start)
        if self._source is not None:
            self._source.close()
            self._source = None

    def _commit(self, commit: Commit) -> None:
        self._purger.learned(commit.position.offsets, (commit.keep or commit.position).offsets)
        self._purge_at = 0.0
        if self._source is None:
            return  # the next connection begins with telling it
        try:
            self._purger.tell(self._source)
        except BrokerUnavailable as error:  # for display, and for others: the next commit makes up for it
            self._say(BrokerState(up=False, detail=str(error)))

    def _say(self, state: BrokerState) -> None:
        if state.up:
            self._failures = 0
        if state.up != self._up:
            self._connection.send(state)
            self._up = state.up

    def close(self) -> None:
        self._dead_letters.close()
        if self._source is not None:
            self._source.close()
