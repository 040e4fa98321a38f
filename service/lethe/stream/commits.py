"""Commits learned offsets in the service's consumer group, for lag tools and for other services.

The checkpoint is the authority on the position: commits are never read back, and learning does not wait for
them. A client of its own sends them. The client that reads has no group, or it would read nothing while the
group has no coordinator.
"""

import time
from collections.abc import Mapping
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from lethe.errors import LetheError
from lethe.stream.broker_errors import describe_error, kafka_errors, root_cause
from lethe.stream.connection import Cluster, open_client
from lethe.stream.kafka_patches import run_commit_callbacks
from lethe.stream.settings import StreamSettings

__all__ = ["OffsetCommits"]

REOPEN_SECONDS: Final = 15.0
"""Between two attempts to open the client, each of which blocks reading."""
POLL_SECONDS: Final = 0.005

EXPLANATIONS: Final = {
    "UnknownMemberIdError": "another consumer has subscribed in this group; give the service its own --group",
    "CoordinatorNotAvailableError": "the broker names no coordinator of the group; can it create the topic "
    "__consumer_offsets (offsets.topic.replication.factor)?",
    "GroupAuthorizationFailedError": "this user is not authorised to use the group",
}
"""By kafka-python's error, the usual cause."""


class OffsetCommits:
    """Sends commits to the broker and holds the outcome of the last one answered."""

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings
        self._client: Any = None
        self._open_at = 0.0
        self._sent = self._answered = 0
        self._failure = ""

    @property
    def failure(self) -> str:
        """Why the broker rejected the last commit that it answered; empty if it did not."""
        self._receive()
        return self._failure

    @property
    def pending(self) -> bool:
        """Whether the newest commit has not been answered."""
        self._receive()
        return self._answered < self._sent

    def send(self, offsets: Mapping[int, int], notes: Mapping[int, str]) -> None:
        """Commit the first offset not learned of each partition, with a note for other services."""
        self._sent += 1
        number = self._sent
        commits = {
            TopicPartition(self._settings.topic, p): OffsetAndMetadata(o, notes.get(p, ""), -1)
            for p, o in offsets.items()
        }
        try:
            client = self._open()
            if client is not None:
                client.commit_async(commits, lambda _, answer: self._record(number, answer))
        except (LetheError, KafkaError) as error:
            self._record(number, error)

    def wait(self, seconds: float) -> bool:
        """Wait up to ``seconds`` for the answer to the newest commit; return whether it succeeded."""
        deadline = time.monotonic() + seconds
        while self.pending and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return not self.pending and not self._failure

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close(autocommit=False, timeout_ms=500)
            self._client = None

    def _open(self) -> Any:
        if self._client is None and time.monotonic() >= self._open_at:
            self._open_at = time.monotonic() + REOPEN_SECONDS
            with kafka_errors(self._settings):
                self._client = open_client(
                    KafkaConsumer,
                    **Cluster.of(self._settings).options,
                    group_id=self._settings.group,
                    client_id=f"lethe-{self._settings.group}-{self._settings.rank}-commits",
                    enable_auto_commit=False,
                    allow_auto_create_topics=False,
                    metrics_enabled=False,
                )
        elif self._client is None:
            self._answered = self._sent  # with the failure of the last attempt
        return self._client

    def _receive(self) -> None:
        if self._client is not None and self._answered < self._sent:
            run_commit_callbacks(self._client)

    def _record(self, number: int, answer: object) -> None:
        if number <= self._answered:
            return  # of several answers, kafka-python delivers the newest first
        self._answered = number
        self._failure = self._describe(answer) if isinstance(answer, Exception) else ""

    def _describe(self, error: Exception) -> str:
        name = type(root_cause(error)).__name__
        why = f"{name}, {EXPLANATIONS[name]}" if name in EXPLANATIONS else describe_error(error)
        return f"group {self._settings.group}: {why}"
