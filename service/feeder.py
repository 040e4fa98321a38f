"""The child's side of the feed: one broker connection, opened again after every failure that may pass."""

import logging
import signal
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

from service.batching import Batcher
from service.errors import BrokerUnavailable, LetheError, PositionLost
from service.slots import BatchSettings, Slots
from service.stream.broker import KafkaSource, StreamSettings
from service.stream.deadletter import DeadLetters
from service.stream.source import Position
from service.wire import Layout

__all__ = ["BrokerState", "feed"]

PROBE_SECONDS: Final = 2.0
"""With no record for so long, the broker is asked whether it is there."""
BACKOFF_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses between attempts to reach a broker; the last one repeats."""


@dataclass(frozen=True, slots=True)
class BrokerState:
    """The broker was reached, or was not and why; sent when that changes."""

    up: bool
    detail: str = ""


def feed(
    connection: Connection,
    slots: Slots,
    stream: StreamSettings,
    batch: BatchSettings,
    layout: Layout,
    position: Position | None,
) -> None:
    """Run the child process until its parent closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to both: the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # outages are reported once, as BrokerState
    feeder = _Feeder(connection, slots, stream, batch, layout, position)
    try:
        feeder.run()
    except (EOFError, ConnectionError):
        return  # the parent is gone or wants no more
    except LetheError as error:
        connection.send(error)
    finally:
        feeder.close()


class _Feeder:
    """Reads, batches and reports, as far as free slots and the broker allow."""

    def __init__(
        self,
        connection: Connection,
        slots: Slots,
        stream: StreamSettings,
        batch: BatchSettings,
        layout: Layout,
        position: Position | None,
    ) -> None:
        self._connection, self._slots = connection, slots
        self._stream, self._batch, self._layout, self._position = stream, batch, layout, position
        self._source: KafkaSource | None = None
        self._batcher: Batcher | None = None
        self._dead_letters = DeadLetters(stream)
        self._free: deque[int] = deque()  # the first one is being filled, and stays the first
        self._up: bool | None = None
        self._failures = 0
        self._heard = time.monotonic()

    def run(self) -> None:
        """Fill slots until the run ends or the parent goes."""
        while True:
            self._listen(0 if self._free and not self._ended else 0.5)
            try:
                self._turn()
            except BrokerUnavailable as error:
                self._say(BrokerState(up=False, detail=str(error)))
                self._listen(BACKOFF_SECONDS[min(self._failures, len(BACKOFF_SECONDS) - 1)])
                self._failures += 1

    @property
    def _ended(self) -> bool:
        return self._batcher is not None and self._batcher.ended

    def _turn(self) -> None:
        source, batcher = self._open()
        if not self._free or self._ended:
            return
        filled = batcher.fill(self._free[0], timeout=0.2)
        if filled is not None:
            self._free.popleft()
            self._connection.send(filled)
            self._heard = time.monotonic()
            self._say(BrokerState(up=True))
        elif time.monotonic() - self._heard > PROBE_SECONDS:
            source.ends()
            self._heard = time.monotonic()
            self._say(BrokerState(up=True))

    def _open(self) -> tuple[KafkaSource, Batcher]:
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
                self._stream.stop_after,
            )
            self._say(BrokerState(up=True))
        return self._source, self._batcher

    def _resumed(self, source: KafkaSource) -> Position | None:
        """Return where to go on, once it is sure that this is still the same topic."""
        given = self._position
        if given is None or given.topic_id is None or source.topic_id in (None, given.topic_id):
            return given
        if not self._stream.accept_loss:
            raise PositionLost(
                f"topic {self._stream.topic} was deleted and created anew: the records from offsets "
                f"{dict(given.offsets)} (by partition) on are gone; --accept-loss starts with the new ones"
            )
        return None

    def _listen(self, timeout: float) -> None:
        """Take free slots and positions from the parent. Raises EOFError when it is gone."""
        while self._connection.poll(timeout):
            message = self._connection.recv()
            if isinstance(message, Position):
                self._commit(message)
            else:
                self._free.append(message)
            timeout = 0

    def _commit(self, position: Position) -> None:
        if self._source is None:
            return  # nothing has been read, so nothing was learned
        try:
            self._source.commit(position.offsets)
        except BrokerUnavailable as error:  # for display only: the next commit makes up for it
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
