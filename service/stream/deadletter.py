"""The dead-letter topic: where a malformed record came from and why it is one, not what it holds."""

import hashlib
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Final

from kafka import KafkaProducer
from kafka.errors import KafkaError, TopicAuthorizationFailedError

from service.errors import DeadLetterUnavailable, MalformedRecord
from service.stream.broker import StreamSettings, client_options, ensure_topic, kafka_errors
from service.stream.source import Record

__all__ = ["DeadLetters"]

ACKNOWLEDGED_SECONDS: Final = 15.0
"""How long the broker may take to acknowledge dead letters before the service stops."""


class DeadLetters:
    """Reports malformed records and knows which reports have been acknowledged.

    A letter's key is its origin, TOPIC/PARTITION/OFFSET: after a crash a letter may be sent a
    second time, and its key tells. Its value is empty, unless payloads are asked for.
    """

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings
        self._producer: Any = None
        self._pending: list[Any] = []

    def send(self, record: Record, error: MalformedRecord) -> None:
        """Hand one report to the producer; `flush` waits for its acknowledgement.

        Raises BrokerUnavailable, DeadLetterUnavailable.
        """
        settings = self._settings
        value = record.value
        origin = f"{settings.topic}/{record.partition}/{record.offset}"
        headers = {
            "lethe-topic": settings.topic,
            "lethe-partition": str(record.partition),
            "lethe-offset": str(record.offset),
            "lethe-reason": error.reason,
            "lethe-detail": error.detail,
            "lethe-size": str(len(value or b"")),
            "lethe-sha256": hashlib.sha256(value or b"").hexdigest(),
        }
        with kafka_errors(settings):
            try:
                self._pending.append(
                    self._open().send(
                        settings.dead_letters,
                        key=origin.encode(),
                        value=value if settings.dead_letter_payloads else None,
                        headers=[(name, text.encode()) for name, text in headers.items()],
                    )
                )
            except TopicAuthorizationFailedError as refused:
                raise DeadLetterUnavailable(f"topic {settings.dead_letters}: {refused}") from refused

    def flush(self) -> None:
        """Wait until the broker has every report.

        Raises DeadLetterUnavailable, naming the topic, when it has not in time.
        """
        while self._pending:
            try:
                self._pending[0].get(timeout=ACKNOWLEDGED_SECONDS)
            except (KafkaError, FutureTimeoutError) as error:
                raise DeadLetterUnavailable(
                    f"topic {self._settings.dead_letters} does not take the report on a malformed record "
                    f"({type(error).__name__}: {error}); the service stops before passing it, nothing is lost"
                ) from error
            self._pending.pop(0)

    def close(self) -> None:
        """Let go of the broker; what was not flushed may be lost, and no position has passed it."""
        if self._producer is not None:
            self._producer.close(timeout=1)

    def _open(self) -> Any:
        if self._producer is None:
            ensure_topic(self._settings, self._settings.dead_letters)
            self._producer = KafkaProducer(
                **client_options(self._settings),
                acks="all",
                max_block_ms=int(ACKNOWLEDGED_SECONDS * 1000),
                delivery_timeout_ms=int(ACKNOWLEDGED_SECONDS * 1000),
                request_timeout_ms=5000,
                linger_ms=5,
            )
        return self._producer
