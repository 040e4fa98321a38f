"""Transactions, on Apache Kafka: only committed records are learned, and markers do not count as lost."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from kafka import KafkaProducer

from lethe.ingest.reader_process import ReaderProcess
from lethe.settings import BatchSettings
from lethe.stream.source import Position
from tests.support.brokers import StreamBroker, of_kafka
from tests.support.streams import LAYOUT, FeedLog, closing, read_feed, sent, settings_of

pytestmark = pytest.mark.needs("kafka")

BATCH = BatchSettings(size=5, slots=3)


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> StreamBroker:
    return of_kafka(request.getfixturevalue("kafka_node"))


@contextmanager
def transactional(broker: StreamBroker, name: str) -> Iterator[Any]:
    with KafkaProducer(bootstrap_servers=broker.bootstrap_servers, transactional_id=name) as producer:
        producer.init_transactions()
        yield producer


def produce(producer: Any, topic: str, numbers: Sequence[int], partitions: int = 1) -> None:
    for partition, value, headers in sent(numbers, partitions):
        producer.send(topic, value=value, partition=partition, headers=list(headers))
    producer.flush()


def transaction(producer: Any, topic: str, numbers: Sequence[int], commit: bool, partitions: int = 1) -> None:
    producer.begin_transaction()
    produce(producer, topic, numbers, partitions)
    if commit:
        producer.commit_transaction()
    else:
        producer.abort_transaction()


def reader(
    broker: StreamBroker, topic: str, position: Position | None = None, **more: object
) -> ReaderProcess:
    return ReaderProcess(settings_of(broker, topic, **more), BATCH, LAYOUT, position)


def is_read(seen: FeedLog) -> bool:
    """Whether the newest message of the feed about the broker says that no record is left."""
    start = seen.states[-1].start
    return start is not None and start.position.ahead == 0


def read(feed: ReaderProcess, count: int, seen: FeedLog | None = None) -> FeedLog:
    return read_feed(feed, seen or FeedLog(), lambda seen: len(seen.numbers) >= count)


def idle(feed: ReaderProcess, seen: FeedLog) -> FeedLog:
    """Wait until the feed reports that nothing is left, whatever its offsets hold."""
    before = len(seen.states)
    return read_feed(feed, seen, lambda seen: len(seen.states) > before and is_read(seen))


@pytest.mark.parametrize("partitions", [1, 3])
def test_only_committed_records_are_learned_and_nothing_counts_as_lost(
    broker: StreamBroker, topic: str, partitions: int
) -> None:
    broker.create_topic(topic, partitions)
    with transactional(broker, topic) as producer:
        transaction(producer, topic, range(15), True, partitions)
        transaction(producer, topic, range(100, 115), False, partitions)
        transaction(producer, topic, range(15, 30), True, partitions)
        transaction(producer, topic, range(200, 215), False, partitions)
        with closing(reader(broker, topic)) as feed:
            seen = idle(feed, read(feed, 30))
    assert seen.numbers == list(range(30))
    assert sum(filled.lost for filled in seen.filled) == 0
    assert sum(filled.skipped for filled in seen.filled) == 15 + 2 * partitions, "aborted records and markers"


def test_records_of_an_open_transaction_wait_for_its_end(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    with transactional(broker, topic) as producer:
        transaction(producer, topic, range(10), True)
        producer.begin_transaction()
        produce(producer, topic, range(10, 20))
        with closing(reader(broker, topic)) as feed:
            seen = idle(feed, read(feed, 10))
            assert seen.numbers == list(range(10))
            producer.commit_transaction()
            read(feed, 20, seen)
    assert seen.numbers == list(range(20))


def test_a_restart_after_any_batch_continues_with_the_next_committed_record(
    broker: StreamBroker, topic: str
) -> None:
    broker.create_topic(topic, 2)
    with transactional(broker, topic) as producer:
        for first in range(0, 40, 10):
            transaction(producer, topic, range(first, first + 10), True, 2)
            transaction(producer, topic, range(100 + first, 106 + first), False, 2)
    with closing(reader(broker, topic)) as feed:
        whole = read(feed, 40)
    assert whole.numbers == list(range(40))
    for done, filled in enumerate(whole.filled[:-1], 1):
        with closing(reader(broker, topic, filled.position)) as feed:
            rest = read(feed, 40 - 5 * done)
        assert rest.numbers == list(range(5 * done, 40))
        assert sum(batch.lost for batch in rest.filled) == 0


def test_read_uncommitted_learns_them_all(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    with transactional(broker, topic) as producer:
        transaction(producer, topic, range(10), True)
        transaction(producer, topic, range(10, 20), False)
        producer.begin_transaction()
        produce(producer, topic, range(20, 30))
        with closing(reader(broker, topic, isolation="read_uncommitted")) as feed:
            seen = read(feed, 30)
        producer.abort_transaction()
    assert seen.numbers == list(range(30))
    assert [sum(getattr(filled, name) for filled in seen.filled) for name in ("lost", "skipped")] == [0, 2]


def test_an_incomplete_batch_is_read_again_only_when_there_are_more_records(
    broker: StreamBroker, topic: str
) -> None:
    broker.create_topic(topic, 1)
    with transactional(broker, topic) as producer:
        transaction(producer, topic, range(3), True)
        transaction(producer, topic, range(100, 110), False)
        with closing(ReaderProcess(settings_of(broker, topic), BATCH, LAYOUT, residency=0.6)) as feed:
            seen = read_feed(feed, FeedLog(), lambda seen: bool(seen.discards))
            deadline = time.monotonic() + 5
            read_feed(feed, seen, lambda _: time.monotonic() > deadline)
            assert seen.discards == [1], "of the offsets behind it, none holds a record"
            transaction(producer, topic, range(3, 5), True)
            read(feed, 5, seen)
    assert seen.numbers == list(range(5))
