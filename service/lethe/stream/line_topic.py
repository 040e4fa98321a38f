"""An append-only topic of text lines, such as the heads of a ledger."""

from contextlib import closing
from typing import Any, Final

from lethe.errors import BrokerUnavailable, InvalidSetting
from lethe.stream.admin import ensure_topic, open_producer
from lethe.stream.broker_errors import kafka_errors
from lethe.stream.consumer import KafkaSource
from lethe.stream.kafka_patches import close_producer
from lethe.stream.settings import StreamSettings

__all__ = ["LineTopic", "read_lines"]

ACKNOWLEDGED_SECONDS: Final = 5.0
"""Timeout for the acknowledgement of a line."""
KEEP_FOREVER: Final = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
"""Configuration of a topic that is created: nothing in it is ever deleted."""


class LineTopic:
    """Appends lines to topic ``name`` of the cluster of ``stream``; creates the topic if it is missing."""

    def __init__(self, stream: StreamSettings, name: str) -> None:
        self._stream = stream.model_copy(update={"topic": name})
        self._producer: Any = None

    def append(self, line: str, key: str) -> None:
        """Append a line and wait for its acknowledgement. Raises BrokerUnavailable, InvalidSetting."""
        try:
            with kafka_errors(self._stream):
                record = self._open().send(self._stream.topic, value=line.encode(), key=key.encode())
                record.get(timeout=ACKNOWLEDGED_SECONDS)
        except (BrokerUnavailable, InvalidSetting):
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        if self._producer is not None:
            close_producer(self._producer, 1)
            self._producer = None

    def _open(self) -> Any:
        if self._producer is None:
            ensure_topic(self._stream, self._stream.topic, configs=KEEP_FOREVER)
            self._producer = open_producer(self._stream, ACKNOWLEDGED_SECONDS)
        return self._producer


def read_lines(stream: StreamSettings, name: str) -> list[str]:
    """Return every line of topic ``name``, in order within each partition.

    Raises BrokerUnavailable, also for a topic that does not exist, PositionLost, InvalidSetting.
    """
    lines = []
    with closing(KafkaSource(stream.model_copy(update={"topic": name, "rank": 0, "world": 1}))) as source:
        ends = source.ends()
        reached = dict(source.seek({}))
        while any(reached[p] < end for p, end in ends.items()):
            lines += [(record.value or b"").decode(errors="replace") for record in source.poll(1.0, 500, ())]
            reached |= source.reached()
    return lines
