"""What the stream tests share: a topic to send to, and a feed to listen to."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from service.batching import Filled
from service.feed import Batch, FeederProcess
from service.messages import BrokerState
from service.stream.settings import StreamSettings
from service.stream.source import Position
from service.wire import Headers, Layout, Sample, encode
from tests.brokers import StreamBroker

__all__ = [
    "LAYOUT",
    "Heard",
    "Outgoing",
    "closing",
    "hear",
    "letters",
    "sample",
    "send",
    "sent",
    "settings_of",
]

LAYOUT = Layout(channels=1, height=2, width=2, max_bytes=500)

Outgoing = tuple[int, bytes | None, Headers]
"""Partition, value and headers of a record to be sent."""


def sample(number: int) -> Sample:
    """The sample with this number in its pixels, so that order and loss can be seen."""
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
    found: list[tuple[bytes, bytes | None, dict[str, str]]] = []
    with KafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers,
        api_version=broker.api_version,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    ) as consumer:
        consumer.assign([TopicPartition(f"{topic}.dead-letters", 0)])
        deadline = time.monotonic() + 20
        while len(found) < count and time.monotonic() < deadline:
            for records in consumer.poll(timeout_ms=500).values():
                found += [
                    (r.key, r.value, {name: text.decode() for name, text in r.headers}) for r in records
                ]
    return found


@dataclass
class Heard:
    """Everything a feed has said."""

    numbers: list[int] = field(default_factory=list)
    """The samples, by the number in their pixels."""
    labels: list[int] = field(default_factory=list)
    filled: list[Filled] = field(default_factory=list)
    states: list[BrokerState] = field(default_factory=list)

    @property
    def ups(self) -> list[bool]:
        """Whether the broker was there, whenever that changed."""
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


def hear(feed: FeederProcess, heard: Heard, until: Callable[[Heard], bool], seconds: float = 40.0) -> Heard:
    """Take from ``feed`` what it says, and release each batch, until ``until`` or too late."""
    deadline = time.monotonic() + seconds
    while not until(heard):
        assert time.monotonic() < deadline, f"only {heard.received} records and {heard.states} until now"
        match feed.next(timeout=0.2):
            case Batch() as batch:
                heard.numbers += [int.from_bytes(x.tobytes(), "big") for x in batch.x_BCHW]
                heard.labels += batch.y_B.tolist()
                heard.filled.append(batch.filled)
                feed.release(batch)
            case BrokerState() as state:
                heard.states.append(state)
    return heard


@contextmanager
def closing(feed: FeederProcess) -> Iterator[FeederProcess]:
    """Close the feed whatever happens, so that no process is left."""
    try:
        yield feed
    finally:
        feed.close()
