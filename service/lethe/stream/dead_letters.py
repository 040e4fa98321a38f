"""Reports malformed records to the dead-letter topic: their origin and the reason, not their content."""

import hmac
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from lethe.errors import BrokerUnavailable, DeadLetterUnavailable, InvalidSetting, MalformedRecord
from lethe.stream.admin import ensure_topic, open_producer
from lethe.stream.broker_errors import kafka_errors
from lethe.stream.kafka_patches import close_producer
from lethe.stream.settings import StreamSettings
from lethe.stream.source import Record

__all__ = ["DeadLetters"]

ACKNOWLEDGED_SECONDS: Final = 5.0
"""Timeout for the acknowledgement of a dead letter; beyond it the broker counts as unavailable."""
MOST_BYTES: Final = 4 << 20
"""Limit of the values in unacknowledged dead letters; beyond it the next one waits."""
PAYLOAD_BYTES: Final = 1_000_000
"""A longer value is not included: with Kafka's default limit of 1 MiB the broker would reject it."""


class DeadLetters:
    """Sends dead letters and tracks which of them the broker has acknowledged.

    A dead letter's key is the record's origin, TOPIC/PARTITION/OFFSET: after a failure it may be sent
    twice, and the key identifies the duplicate. Its value is empty, unless payloads are configured.
    Headers hold the size of the record's value and its HMAC under ``key``: who has the key can compare
    values, and without it none can be guessed. The default key is random and never stored.

    ``reported`` maps each partition to the offset before which every malformed record has its dead
    letter: those records get no second one when they are read again.
    """

    def __init__(
        self,
        settings: StreamSettings,
        key: bytes | None = None,
        reported: Mapping[int, int] | None = None,
    ) -> None:
        self._settings = settings
        self._key = os.urandom(32) if key is None else key
        self.reported = dict(reported or {})
        self._producer: Any = None
        self._letters: list[dict[str, Any]] = []
        """Not acknowledged, oldest first."""
        self._sent: list[Any] = []
        """Futures of the first of `_letters`; the others have not been sent."""
        self._bytes = 0
        """Of the values in `_letters`."""
        self._queued: dict[int, int] = {}
        """Like `reported`, for `_letters`."""

    def send(self, record: Record, error: MalformedRecord) -> None:
        """Queue the dead letter of ``record``; `flush` waits for its acknowledgement.

        Raises BrokerUnavailable, after which the call can be repeated, and DeadLetterUnavailable.
        """
        if record.offset < max(self.reported.get(record.partition, 0), self._queued.get(record.partition, 0)):
            return
        if self._bytes >= MOST_BYTES:
            self.flush()
        value = record.value or b""
        headers = {
            "lethe-topic": self._settings.topic,
            "lethe-partition": str(record.partition),
            "lethe-offset": str(record.offset),
            "lethe-reason": error.reason,
            "lethe-detail": error.detail,
            "lethe-size": str(len(value)),
            "lethe-hmac-sha256": hmac.digest(self._key, value, "sha256").hex(),
        }
        with_payload = self._settings.dead_letter_payloads and len(value) <= PAYLOAD_BYTES
        letter = {
            "key": f"{self._settings.topic}/{record.partition}/{record.offset}".encode(),
            "value": record.value if with_payload else None,
            "headers": [(name, text.encode()) for name, text in headers.items()],
        }
        with self._errors():
            self._send_unsent()
            self._sent.append(self._open().send(self._settings.dead_letters, **letter))
        self._letters.append(letter)
        self._bytes += len(letter["value"] or b"")
        self._queued[record.partition] = record.offset + 1

    def flush(self) -> None:
        """Wait until the broker has acknowledged every dead letter.

        Raises BrokerUnavailable when it does not answer: the next call sends what is not acknowledged
        again. Raises DeadLetterUnavailable, naming the topic, when it rejects one.
        """
        with self._errors():
            self._send_unsent()
            while self._sent:
                self._sent[0].get(timeout=ACKNOWLEDGED_SECONDS)
                del self._sent[0]
                self._bytes -= len(self._letters.pop(0)["value"] or b"")
        self.reported.update(self._queued)
        self._queued.clear()

    def close(self) -> None:
        """Close the connection; what was not flushed may be lost, and no position is past it."""
        self._sent.clear()
        if self._producer is not None:
            close_producer(self._producer, 1)
            self._producer = None

    def _send_unsent(self) -> None:
        for letter in self._letters[len(self._sent) :]:
            self._sent.append(self._open().send(self._settings.dead_letters, **letter))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Map kafka-python's errors to Lethe's; after one, everything is sent on a new connection."""
        try:
            with kafka_errors(self._settings, self._settings.dead_letters):
                yield
        except BrokerUnavailable:
            self.close()
            raise
        except InvalidSetting as rejected:
            self.close()
            raise DeadLetterUnavailable(
                f"topic {self._settings.dead_letters} rejects the report on a malformed record "
                f"({rejected}); the service stops before that record, nothing is lost"
            ) from rejected

    def _open(self) -> Any:
        if self._producer is None:
            ensure_topic(self._settings, self._settings.dead_letters)
            more = {"max_request_size": 2 * PAYLOAD_BYTES, "linger_ms": 5}
            self._producer = open_producer(self._settings, ACKNOWLEDGED_SECONDS, **more)
        return self._producer
