"""Monitors the broker on a thread, for a run that has ended and reads nothing more."""

import logging
import queue
import threading
from collections.abc import Iterator
from contextlib import closing
from types import TracebackType
from typing import Final, Self

from lethe.errors import LetheError
from lethe.ingest.batcher import Start
from lethe.ingest.messages import BrokerState
from lethe.stream.consumer import KafkaSource
from lethe.stream.settings import StreamSettings
from lethe.stream.source import Position

__all__ = ["BrokerMonitor"]

INTERVAL_SECONDS: Final = 2.0


class BrokerMonitor:
    """A context manager that requests the partitions' ends every two seconds, on a connection of its own.

    Every failure is reported as a state, whatever it is: the run has ended, and the service continues to
    serve without a broker.
    """

    def __init__(self, stream: StreamSettings) -> None:
        self._stream = stream
        self._states: queue.SimpleQueue[BrokerState] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lethe-broker-monitor", daemon=True)

    def states(self) -> Iterator[BrokerState]:
        """Yield the states since the last call, each with the partitions' ends or the failure."""
        while not self._states.empty():
            yield self._states.get()

    def __enter__(self) -> Self:
        logging.getLogger("kafka").setLevel(logging.CRITICAL)  # outages are reported once, as BrokerState
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join(1.0)  # it may be waiting for an answer that is not needed

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                with closing(KafkaSource(self._stream)) as source:
                    self._report_until_failure(source)
            except LetheError as error:
                self._states.put(BrokerState(up=False, detail=str(error)))
            self._closing.wait(INTERVAL_SECONDS)

    def _report_until_failure(self, source: KafkaSource) -> None:
        while not self._closing.is_set():
            ends = source.ends()
            position = Position(dict(ends), 0, source.topic_id, ends)
            self._states.put(BrokerState(True, "", Start(position, None)))
            self._closing.wait(INTERVAL_SECONDS)
