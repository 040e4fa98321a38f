"""The dead-letter topic: where a malformed record came from and why it is one, not what it holds."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from kafka import KafkaProducer

from service.errors import BrokerUnavailable, DeadLetterUnavailable, InvalidSetting, MalformedRecord
from service.stream.client import open_client
from service.stream.cluster import ensure_topic, kafka_errors
from service.stream.settings import StreamSettings, client_options
from service.stream.source import Record

__all__ = ["DeadLetters"]

ACKNOWLEDGED_SECONDS: Final = 5.0
"""How long the broker may take to acknowledge dead letters before it counts as unavailable."""
PAYLOAD_BYTES: Final = 1_000_000
"""A longer value stays out of its dead letter, which a topic might not take; Kafka's limit is 1 MiB."""


class DeadLetters:
    """Reports malformed records and knows which reports have been acknowledged.

    A letter's key is its origin, TOPIC/PARTITION/OFFSET: after a failure a letter may be sent a
    second time, and its key tells. Its value is empty, unless payloads are asked for.
    """

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings
        self._producer: Any = None
        self._letters: list[dict[str, Any]] = []
        """Not acknowledged yet, oldest first."""
        self._sent: list[Any] = []
        """What became of the first of `_letters`; the others are still to be sent."""

    def send(self, record: Record, error: MalformedRecord) -> None:
        """Hand one report to the producer; `flush` waits for its acknowledgement.

        Raises BrokerUnavailable, after which the record can be sent again, DeadLetterUnavailable.
        """
        value = record.value or b""
        headers = {
            "lethe-topic": self._settings.topic,
            "lethe-partition": str(record.partition),
            "lethe-offset": str(record.offset),
            "lethe-reason": error.reason,
            "lethe-detail": error.detail,
            "lethe-size": str(len(value)),
            "lethe-sha256": hashlib.sha256(value).hexdigest(),
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

    def flush(self) -> None:
        """Wait until the broker has every report.

        Raises BrokerUnavailable when it does not answer: the next call sends again what it has
        not acknowledged. Raises DeadLetterUnavailable, naming the topic, when it refuses.
        """
        with self._errors():
            self._send_unsent()
            while self._sent:
                self._sent[0].get(timeout=ACKNOWLEDGED_SECONDS)
                del self._sent[0], self._letters[0]

    def close(self) -> None:
        """Let go of the broker; what was not flushed may be lost, and no position has passed it."""
        self._sent.clear()
        if self._producer is not None:
            self._producer.close(timeout=1)
            self._producer = None

    def _send_unsent(self) -> None:
        for letter in self._letters[len(self._sent) :]:
            self._sent.append(self._open().send(self._settings.dead_letters, **letter))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn kafka-python's errors into ours; after one, everything is sent on a new connection."""
        try:
            with kafka_errors(self._settings):
                yield
        except BrokerUnavailable:
            self.close()
            raise
        except InvalidSetting as refused:
            self.close()
            raise DeadLetterUnavailable(
                f"topic {self._settings.dead_letters} does not take the report on a malformed record "
                f"({refused}); the service stops before passing it, nothing is lost"
            ) from refused

    def _open(self) -> Any:
        if self._producer is None:
            ensure_topic(self._settings, self._settings.dead_letters)
            patience = int(ACKNOWLEDGED_SECONDS * 1000)
            self._producer = open_client(
                KafkaProducer,
                **client_options(self._settings),
                acks="all",
                bootstrap_timeout_ms=patience,
                max_block_ms=patience,
                delivery_timeout_ms=patience,
                request_timeout_ms=3000,
                max_request_size=2 * PAYLOAD_BYTES,
                linger_ms=5,
            )
        return self._producer
