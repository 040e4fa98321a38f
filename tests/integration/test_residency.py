"""Bounded residency: records that cannot be learned soon are returned to the broker and learned later."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lethe.ingest.batcher import Start
from lethe.ingest.feed import Batch
from lethe.ingest.reader_process import ReaderProcess
from lethe.settings import BatchSettings
from lethe.stream.embedded_broker import EmbeddedBroker
from lethe.stream.source import Position
from lethe.wire import PNG, encode
from tests.support.brokers import StreamBroker, of_embedded
from tests.support.pngs import chunk
from tests.support.streams import LAYOUT, FeedLog, closing, read_feed, sample, send, sent, settings_of
from tests.support.waiting import until

pytestmark = [pytest.mark.needs("embedded")]

BATCH = BatchSettings(size=8, slots=2)
RESIDENCY = 2.0
"""Half of it is how long a test has to see that records came, on a busy machine."""


@pytest.fixture
def broker(embedded_broker: EmbeddedBroker) -> StreamBroker:
    return of_embedded(embedded_broker)


def reader(broker: StreamBroker, topic: str) -> ReaderProcess:
    return ReaderProcess(settings_of(broker, topic), BATCH, LAYOUT, residency=RESIDENCY)


def decoded(broker: StreamBroker, topic: str) -> ReaderProcess:
    """Two decoders, which have decoded what waits for its turn."""
    batch = BATCH.model_copy(update={"readers": 2})
    return ReaderProcess(settings_of(broker, topic), batch, LAYOUT, residency=RESIDENCY)


def goes_back(feed: ReaderProcess) -> None:
    """All records leave the service, and are not fetched again at once."""
    until(lambda: feed.resident > 0, "records come")
    until(lambda: feed.resident == 0, "they go back")
    deadline = time.monotonic() + RESIDENCY
    while time.monotonic() < deadline:
        assert feed.resident == 0
        time.sleep(0.02)


def received(count: int) -> Callable[[FeedLog], bool]:
    return lambda seen: seen.received == count


def test_half_a_batch_is_returned_until_there_is_a_whole_one(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    send(broker, topic, sent(range(5)))
    with closing(reader(broker, topic)) as feed:
        goes_back(feed)
        send(broker, topic, sent(range(5, 8)))
        seen = read_feed(feed, FeedLog(), received(8))
    assert seen.numbers == list(range(8))
    assert seen.discards == [1]


def test_a_batch_that_cannot_be_read_in_time_is_returned_and_counted(
    broker: StreamBroker, topic: str
) -> None:
    broker.create_topic(topic, 1)
    comment = chunk(b"tEXt", b"a\0" + bytes(1000))
    for number in range(128):  # each in an answer of its own: that takes longer than half of the residency
        value, headers = encode(sample(number), PNG)
        send(broker, topic, [(0, value[:33] + comment + value[33:], headers)])
    settings = settings_of(broker, topic, fetch_bytes=1024)
    batch = BatchSettings(size=128, slots=2)
    with closing(ReaderProcess(settings, batch, LAYOUT, residency=0.05)) as feed:
        seen = read_feed(feed, FeedLog(), lambda seen: len(seen.discards) == 4)
    assert seen.discards == [1, 2, 3, 4]
    assert not seen.filled


def test_records_that_wait_for_another_partition_are_returned(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 2)
    send(broker, topic, [(1, *encode(sample(number))) for number in range(1, 20, 2)])
    with closing(reader(broker, topic)) as feed:
        goes_back(feed)
        send(broker, topic, [(0, *encode(sample(number))) for number in range(0, 20, 2)])
        assert read_feed(feed, FeedLog(), received(16)).numbers == list(range(16))


def test_records_that_wait_for_a_slow_learner_are_returned(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    send(broker, topic, sent(range(40)))
    with closing(reader(broker, topic)) as feed:
        held: list[Batch] = []
        while len(held) < BATCH.slots:
            if isinstance(news := feed.next(1), Batch):
                held.append(news)
        until(lambda: feed.resident == 16, "what does not fit into slots goes back")
        for batch in held:
            feed.release(batch)
        assert read_feed(feed, FeedLog(), received(24)).numbers == list(range(16, 40))


def test_decoders_are_bounded_alike_and_overwrite_what_they_free(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    send(broker, topic, [(0, *encode(sample(number), PNG)) for number in range(13)])
    with closing(decoded(broker, topic)) as feed:
        seen = read_feed(feed, FeedLog(), received(8))
        goes_back(feed)
        assert len(feed.pids) == 3
        for pid in feed.pids:
            assert b"glibc.malloc.perturb" in Path(f"/proc/{pid}/environ").read_bytes()
        send(broker, topic, [(0, *encode(sample(number), PNG)) for number in range(13, 16)])
        assert read_feed(feed, seen, received(16)).numbers == list(range(16))


def test_after_a_pause_reading_continues_at_the_given_position(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    send(broker, topic, sent(range(40)))
    with closing(reader(broker, topic)) as feed:
        seen = read_feed(feed, FeedLog(), received(8))
        feed.pause(Start(Position({0: 8}), None))
        until(lambda: feed.resident == 0, "all goes back")
        time.sleep(0.5)
        assert feed.resident == 0
        feed.resume()
        assert read_feed(feed, seen, received(40)).numbers == list(range(40))
