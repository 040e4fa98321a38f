"""Temporary topics of experiments: created, filled and deleted, on a Kafka cluster or an embedded broker."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from threading import Event
from typing import Final

from lethe.errors import BrokerUnavailable
from lethe.settings import Settings
from lethe.stream.admin import delete_topics, ensure_topic, open_admin
from lethe.stream.broker_errors import kafka_errors
from lethe.stream.connection import Cluster
from lethe.stream.embedded_broker import API_VERSION, EmbeddedBroker
from lethe.stream.purge import needed_offsets
from lethe.stream.settings import StreamSettings
from lethe_producers.publisher import Publisher
from lethe_producers.records import Record

__all__ = ["Outgoing", "open_publisher", "publish", "temporary_topic"]

Outgoing = tuple[bytes | None, list[tuple[str, bytes]]]
"""Value and headers of a record."""

PURGE_SECONDS: Final = 1.0
"""Between two purges of the embedded broker."""
ANSWER_SECONDS: Final = 15.0
"""The longest wait for an answer of the broker while records are published."""


@contextmanager
def temporary_topic(
    broker: str | None,
    purpose: str,
    partitions: int = 1,
    readers: Sequence[str] = (),
    configs: Mapping[str, str] | None = None,
) -> Iterator[StreamSettings]:
    """Create a topic, yield its stream settings, and delete it on exit.

    ``broker`` is HOST:PORT of a Kafka cluster; None starts an embedded broker for the duration. An
    embedded broker deletes the records that all ``readers`` have committed; these are the suffixes of
    their consumer groups, after the topic's name. A cluster deletes records only on a service's
    request; ``configs`` are the configuration of its topic. Raises BrokerUnavailable, InvalidSetting.
    """
    topic = f"lethe-{purpose}-{os.getpid()}-{int(time.time())}"
    if broker is None:
        with EmbeddedBroker() as embedded:
            version = ".".join(map(str, API_VERSION))
            servers = embedded.bootstrap_servers
            # the embedded broker rejects DeleteRecords requests: its own process deletes instead
            stream = StreamSettings(
                bootstrap_servers=servers, topic=topic, api_version=version, deletes=False
            )
            embedded.create_topic(stream.topic, partitions)
            embedded.create_topic(stream.dead_letters, 1)
            groups = [f"{topic}-{reader}" for reader in readers]
            with _purging(embedded, stream, partitions, groups) if groups else nullcontext():
                yield stream
        return
    # the cluster's security options come from LETHE_STREAM__SECURITY, as in every command
    stream = Settings.read({"stream": {"bootstrap_servers": broker, "topic": topic}}).stream
    ensure_topic(stream, stream.topic, partitions, configs)
    try:
        yield stream
    finally:
        delete_topics(stream, [stream.topic, stream.dead_letters])


def open_publisher(stream: StreamSettings) -> Publisher:
    """Return a producer for the topic of ``stream``, with its security. Raises what `Publisher` does."""
    return Publisher(Cluster.of(stream, ANSWER_SECONDS), stream.topic)


def publish(stream: StreamSettings, records: Iterable[Outgoing]) -> None:
    """Send ``records`` to the partitions in turns, and return when all are acknowledged.

    The key of each is its number. Raises what `Publisher` does.
    """
    with open_publisher(stream) as publisher:
        for number, (value, headers) in enumerate(records):
            publisher.send(Record(number, b"%d" % number, value, headers), number % publisher.partitions)
        publisher.flush()


@contextmanager
def _purging(
    broker: EmbeddedBroker, stream: StreamSettings, partitions: int, groups: Sequence[str]
) -> Iterator[None]:
    """Delete records that no consumer group in ``groups`` needs, in the background."""
    done = Event()
    with ThreadPoolExecutor(1, "lethe-purge") as thread:
        future = thread.submit(_purge, broker, stream, partitions, groups, done)
        try:
            yield
        finally:
            done.set()
            future.result()  # raises what the thread raised


def _purge(
    broker: EmbeddedBroker, stream: StreamSettings, partitions: int, groups: Sequence[str], done: Event
) -> None:
    readers = stream.model_copy(update={"group": "", "shared_with": ",".join(groups)})
    purged = dict.fromkeys(range(partitions), 0)
    while not done.wait(PURGE_SECONDS):
        try:
            with open_admin(readers) as admin, kafka_errors(readers):
                needed, _ = needed_offsets(admin, readers, dict.fromkeys(purged, sys.maxsize))
        except BrokerUnavailable:
            continue  # busy with other clients: the next round retries
        for partition, offset in needed.items():
            if offset > purged[partition]:
                broker.delete_records(stream.topic, partition, offset)
                purged[partition] = offset
