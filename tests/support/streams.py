"""Helpers of the stream tests: they send records to a topic and collect what a feed delivers."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from lethe.ingest.batcher import FilledBatch
from lethe.ingest.feed import Batch
from lethe.ingest.messages import BrokerState, IncompleteBatchDiscarded
from lethe.ingest.reader_process import ReaderProcess
from lethe.stream.settings import StreamSettings
from lethe.stream.source import Position
from lethe.wire import Headers, Layout, Sample, encode
from tests.support.brokers import StreamBroker

__all__ = [
    "LAYOUT",
    "FeedLog",
    "Outgoing",
    "closing",
    "letters",
    "read_feed",
    "received",
    "sample",
    "send",
    "sent",
    "settings_of",
]

LAYOUT = Layout(channels=1, height=2, width=2, max_bytes=2000)

Outgoing = tuple[int, bytes | None, Headers]
"""Partition, value and headers of a record to be sent."""


def sample(number: int) -> Sample:
    """The sample with this number in its pixels, so that order and loss can be checked."""
    pixels = np.frombuffer(number.to_bytes(4, "big"), np.uint8).reshape(LAYOUT.shape)
    return Sample(pixels, number % 10, "even" if number % 20 < 10 else "odd")


def sent(numbers: Iterable[int], partitions: int = 1) -> list[Outgoing]:
    """Records of the samples with these numbers, in turns over the partitions."""
    return [(number % partitions, *encode(sample(number))) for number in numbers]


def settings_of(broker: StreamBroker, topic: str, **more: object) -> StreamSettings:
    version = broker.api_version and ".".join(map(str, broker.api_version))
    return StreamSettings.model_validate(
        {"bootstrap_servers": broker.bootstrap_servers, "api_version": version, "topic": topic, **more}
    )


def send(broker: StreamBroker, topic: str, records: Sequence[Outgoing]) -> None:
    """Produce with kafka-python and wait until every record is acknowledged."""
    with KafkaProducer(
        bootstrap_servers=broker.bootstrap_servers, api_version=broker.api_version
    ) as producer:
        futures = [
            producer.send(topic, key=b"key", value=value, partition=partition, headers=list(headers))
            for partition, value, headers in records
        ]
        for future in futures:
            future.get(timeout=30)


def letters(broker: StreamBroker, topic: str, count: int) -> list[tuple[bytes, bytes | None, dict[str, str]]]:
    """Key, value and headers of the first ``count`` dead letters of ``topic``."""
    return received(broker, f"{topic}.dead-letters", count)


def received(
    broker: StreamBroker, topic: str, count: int
) -> list[tuple[bytes, bytes | None, dict[str, str]]]:
    """Key, value and headers of the first ``count`` records in partition 0 of ``topic``."""
    found: list[tuple[bytes, bytes | None, dict[str, str]]] = []
    with KafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers,
        api_version=broker.api_version,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    ) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        deadline = time.monotonic() + 90
        while len(found) < count and time.monotonic() < deadline:
            for records in consumer.poll(timeout_ms=500).values():
                found += [
                    (r.key, r.value, {name: text.decode() for name, text in r.headers}) for r in records
                ]
    return found


@dataclass
class FeedLog:
    """Everything that a feed has delivered."""

    numbers: list[int] = field(default_factory=list)
    """The samples, by the number in their pixels."""
    labels: list[int] = field(default_factory=list)
    filled: list[FilledBatch] = field(default_factory=list)
    states: list[BrokerState] = field(default_factory=list)
    discards: list[int] = field(default_factory=list)
    """For each discarded incomplete batch, how often in a row it was discarded."""

    @property
    def ups(self) -> list[bool]:
        """Whether the broker answered, one entry for each change."""
        return [up for up, _ in groupby(state.up for state in self.states)]

    @property
    def received(self) -> int:
        return sum(filled.received for filled in self.filled)

    @property
    def dead(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for filled in self.filled:
            total.update(filled.dead)
        return total

    @property
    def position(self) -> Position:
        return self.filled[-1].position


def read_feed(
    feed: ReaderProcess, seen: FeedLog, until: Callable[[FeedLog], bool], seconds: float = 90.0
) -> FeedLog:
    """Read from ``feed`` until ``until`` holds, and release each batch; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not until(seen):
        assert time.monotonic() < deadline, f"only {seen.received} records and {seen.states} until now"
        match feed.next(timeout=0.2):
            case Batch() as batch:
                seen.numbers += [int.from_bytes(x.tobytes(), "big") for x in batch.x_BCHW]
                seen.labels += batch.y_B.tolist()
                seen.filled.append(batch.filled)
                feed.release(batch)
            case BrokerState() as state:
                seen.states.append(state)
            case IncompleteBatchDiscarded(times):
                seen.discards.append(times)
    return seen


@contextmanager
def closing(feed: ReaderProcess) -> Iterator[ReaderProcess]:
    """Close the feed on exit, so that no process is left."""
    try:
        yield feed
    finally:
        feed.close()
