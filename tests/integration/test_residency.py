"""Where residency is bounded: what cannot be learned soon goes back to the broker, and is learned later."""

import time
from collections.abc import Callable

import pytest

from service.batching import Start
from service.feed import Batch, FeederProcess
from service.slots import BatchSettings
from service.stream.embedded import EmbeddedBroker
from service.stream.source import Position
from service.wire import encode
from tests.brokers import StreamBroker, of_embedded
from tests.streams import LAYOUT, Heard, closing, hear, sample, send, sent, settings_of
from tests.waiting import until

pytestmark = [pytest.mark.needs("embedded")]

BATCH = BatchSettings(size=8, slots=2)
RESIDENCY = 0.6


@pytest.fixture
def broker(embedded_broker: EmbeddedBroker) -> StreamBroker:
    return of_embedded(embedded_broker)


def feeder(broker: StreamBroker, topic: str) -> FeederProcess:
    return FeederProcess(settings_of(broker, topic), BATCH, LAYOUT, residency=RESIDENCY)


def goes_back(feed: FeederProcess) -> None:
    """All that came leaves the service, and is not fetched again at once."""
    until(lambda: feed.resident > 0, "records come", 20)
    until(lambda: feed.resident == 0, "they go back", 5)
    deadline = time.monotonic() + 2 * RESIDENCY
    while time.monotonic() < deadline:
        assert feed.resident == 0
        time.sleep(0.02)


def received(count: int) -> Callable[[Heard], bool]:
    return lambda heard: heard.received == count


def test_half_a_batch_goes_back_until_there_is_a_whole_one(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    send(broker, topic, sent(range(5)))
    with closing(feeder(broker, topic)) as feed:
        goes_back(feed)
        send(broker, topic, sent(range(5, 8)))
        assert hear(feed, Heard(), received(8)).numbers == list(range(8))


def test_records_that_wait_for_another_partition_go_back(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 2)
    send(broker, topic, [(1, *encode(sample(number))) for number in range(1, 20, 2)])
    with closing(feeder(broker, topic)) as feed:
        goes_back(feed)
        send(broker, topic, [(0, *encode(sample(number))) for number in range(0, 20, 2)])
        assert hear(feed, Heard(), received(16)).numbers == list(range(16))


def test_records_that_wait_for_a_slow_learner_go_back(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    send(broker, topic, sent(range(40)))
    with closing(feeder(broker, topic)) as feed:
        held: list[Batch] = []
        while len(held) < BATCH.slots:
            if isinstance(news := feed.next(1), Batch):
                held.append(news)
        until(lambda: feed.resident == 16, "what does not fit into slots goes back", 5)
        for batch in held:
            feed.release(batch)
        assert hear(feed, Heard(), received(24)).numbers == list(range(16, 40))


def test_after_a_pause_reading_goes_on_where_it_is_told(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    send(broker, topic, sent(range(40)))
    with closing(feeder(broker, topic)) as feed:
        heard = hear(feed, Heard(), received(8))
        feed.pause(Start(Position({0: 8}), None))
        until(lambda: feed.resident == 0, "all goes back", 5)
        time.sleep(0.5)
        assert feed.resident == 0
        feed.resume()
        assert hear(feed, heard, received(40)).numbers == list(range(40))
