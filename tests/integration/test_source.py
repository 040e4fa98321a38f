"""A Kafka topic as a source, and its dead-letter topic, on both brokers."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import LogTruncationError

from lethe.errors import BrokerUnavailable, InvalidSetting, MalformedRecord, PositionLost
from lethe.stream.admin import ensure_topic
from lethe.stream.consumer import KafkaSource
from lethe.stream.dead_letters import PAYLOAD_BYTES, DeadLetters
from lethe.stream.embedded_broker import EmbeddedBroker
from lethe.stream.source import Record
from lethe.wire import Reason, decode
from tests.support.brokers import StreamBroker
from tests.support.sources import MemoryRecord
from tests.support.streams import LAYOUT, letters, send, sent, settings_of


class AnyName(str):
    """A header's name as text, for kafka-python's producer; other clients accept any bytes."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff\xfe"


CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def purge(broker: StreamBroker, request: pytest.FixtureRequest) -> Callable[[str, int], None]:
    """Move the start of a topic's partition 0."""
    if broker.kind == "embedded":
        embedded: EmbeddedBroker = request.getfixturevalue("embedded_broker")
        return lambda topic, offset: embedded.delete_records(topic, 0, offset)

    def over_the_wire(topic: str, offset: int) -> None:
        with KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers) as admin:
            admin.delete_records({TopicPartition(topic, 0): offset})

    return over_the_wire


def read(source: KafkaSource, count: int, seconds: float = 90.0) -> list[Record]:
    records: list[Record] = []
    deadline = time.monotonic() + seconds
    while len(records) < count:
        assert time.monotonic() < deadline, f"only {len(records)} records until now"
        records += source.poll(0.2, 500, ())
    return records


def offsets(records: list[Record], partition: int = 0) -> list[int]:
    return [record.offset for record in records if record.partition == partition]


def test_a_position_before_the_start_names_how_many_samples_are_gone(
    broker: StreamBroker, topic: str, purge: Callable[[str, int], None]
) -> None:
    broker.create_topic(topic, 1)
    send(broker, topic, sent(range(10)))
    purge(topic, 6)
    source = KafkaSource(settings_of(broker, topic))
    said = f"topic {topic}: 4 samples are gone, offsets 2 to 5 of partition 0; --accept-loss"
    with pytest.raises(PositionLost, match=said):
        source.seek({0: 2})
    assert source.seek({}) == {0: 6}
    assert offsets(read(source, 4)) == [6, 7, 8, 9]
    source.close()


def test_a_start_that_overtakes_the_reader_names_how_many_samples_are_gone(
    broker: StreamBroker, topic: str, purge: Callable[[str, int], None]
) -> None:
    broker.create_topic(topic, 1)
    send(broker, topic, sent(range(10)))
    source = KafkaSource(settings_of(broker, topic))
    source.seek({0: 3})
    purge(topic, 8)
    said = f"topic {topic}: 5 samples are gone, offsets 3 to 7 of partition 0; --accept-loss"
    with pytest.raises(PositionLost, match=said):
        read(source, 1)
    source.close()


def test_with_accept_loss_a_reader_continues_after_the_lost_records(
    broker: StreamBroker, topic: str, purge: Callable[[str, int], None]
) -> None:
    broker.create_topic(topic, 1)
    send(broker, topic, sent(range(10)))
    purge(topic, 6)
    source = KafkaSource(settings_of(broker, topic, accept_loss=True))
    assert source.seek({0: 2}) == {0: 2}  # so that the gap is counted
    assert offsets(read(source, 4)) == [6, 7, 8, 9]
    source.seek({0: 7})
    purge(topic, 9)
    assert offsets(read(source, 1)) == [9]
    source.close()


def test_a_position_past_the_end_is_refused(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    source = KafkaSource(settings_of(broker, topic))
    with pytest.raises(
        PositionLost, match=f"topic {topic}, partition 0: offset 1 is past the end 0.* --accept-loss"
    ):
        source.seek({0: 1})
    source.close()


def test_a_run_can_begin_with_new_records(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    send(broker, topic, sent(range(5)))
    source = KafkaSource(settings_of(broker, topic, start="latest"))
    assert source.seek({}) == {0: 5}
    send(broker, topic, sent(range(2)))
    assert offsets(read(source, 2)) == [5, 6]
    source.close()


def test_services_share_the_partitions_by_rank(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 3)
    first = KafkaSource(settings_of(broker, topic, rank=0, world=2))
    second = KafkaSource(settings_of(broker, topic, rank=1, world=2))
    assert (first.partitions, second.partitions) == ([0, 2], [1])
    first.close()
    second.close()
    with pytest.raises(InvalidSetting, match=r"rank 3 of stream.world 4 gets no partition.* has 3"):
        KafkaSource(settings_of(broker, topic, rank=3, world=4))


def test_partitions_that_are_full_are_paused(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 2)
    send(broker, topic, sent(range(20), 2))
    source = KafkaSource(settings_of(broker, topic))
    source.seek({})
    alone: list[Record] = []
    deadline = time.monotonic() + 90
    while len(alone) < 10 and time.monotonic() < deadline:
        alone += source.poll(0.2, 500, {0})
    assert (offsets(alone, 0), offsets(alone, 1)) == ([], list(range(10)))
    assert offsets(read(source, 10), 0) == list(range(10))
    assert source.ends() == source.known_ends() == {0: 10, 1: 10}
    source.close()


def test_a_topic_has_the_brokers_identity_if_there_is_one(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    first, again = KafkaSource(settings_of(broker, topic)), KafkaSource(settings_of(broker, topic))
    assert first.topic_id == again.topic_id
    assert (first.topic_id is None) == (broker.kind == "embedded")
    first.close()
    again.close()


def test_a_header_name_that_is_not_utf8_does_not_stop_the_stream(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    odd = [(AnyName("two"), b"odd"), (AnyName("three"), b"")]
    records_out = [(p, value, [odd[0], *headers, odd[1]]) for p, value, headers in sent(range(6))]
    plain = sent(range(6))
    send(broker, topic, [records_out[i] if i in {2, 5} else plain[i] for i in range(6)])
    source = KafkaSource(settings_of(broker, topic))
    source.seek({})
    records = read(source, 6)
    assert offsets(records) == list(range(6))
    assert [decode(record.value, record.headers, LAYOUT).label for record in records] == list(range(6))
    assert records[2].headers[0] == ("\ufffd\ufffd", b"odd")
    source.seek({0: 4})  # into the middle of the batch that holds it
    assert offsets(read(source, 2)) == [4, 5]
    source.close()


def malformed(offset: int, value: bytes) -> tuple[Record, MalformedRecord]:
    return MemoryRecord(0, offset, value, []), MalformedRecord(Reason.UNDECODABLE, "no PNG")


def test_a_payload_too_long_for_a_topic_stays_out_of_its_letter(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(f"{topic}.dead-letters", 1)
    dead_letters = DeadLetters(settings_of(broker, topic, dead_letter_payloads=True))
    dead_letters.send(*malformed(0, bytes(PAYLOAD_BYTES)))
    dead_letters.send(*malformed(1, bytes(PAYLOAD_BYTES + 1)))
    dead_letters.flush()
    dead_letters.close()
    (_, kept, _), (_, left_out, headers) = letters(broker, topic, 2)
    assert kept == bytes(PAYLOAD_BYTES)
    assert (left_out, headers["lethe-size"]) == (None, str(PAYLOAD_BYTES + 1))


def in_a_process(program: str) -> list[str]:
    """The output of a program: kafka-python leaves refused connections to the garbage collector."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    return done.stdout.splitlines()


@pytest.mark.needs("embedded")
def test_dead_letters_wait_for_an_unavailable_broker() -> None:
    program = """
        from lethe.errors import BrokerUnavailable, MalformedRecord
        from lethe.stream.dead_letters import DeadLetters
        from lethe.stream.embedded_broker import EmbeddedBroker
        from tests.support.brokers import of_embedded
        from tests.support.sources import MemoryRecord
        from tests.support.streams import letters, settings_of

        def send(*offsets):
            for offset in offsets:
                dead_letters.send(MemoryRecord(0, offset, b"a", []), MalformedRecord("undecodable", "no PNG"))

        with EmbeddedBroker() as embedded:
            broker = of_embedded(embedded)
            broker.create_topic("images.dead-letters", 1)
            dead_letters = DeadLetters(settings_of(broker, "images"))
            send(0)
            dead_letters.flush()
            embedded.down()
            send(1, 2)
            try:
                dead_letters.flush()
            except BrokerUnavailable:
                print("unavailable")
            embedded.up()
            dead_letters.flush()
            dead_letters.close()
            for key, _, _ in letters(broker, "images", 3):
                print(key.decode())
    """
    assert in_a_process(program) == ["unavailable", "images/0/0", "images/0/1", "images/0/2"]


@pytest.mark.needs("embedded")
def test_an_absent_broker_is_noticed_within_seconds_and_leaves_no_thread() -> None:
    program = """
        import threading, time
        from lethe.errors import BrokerUnavailable, MalformedRecord
        from lethe.stream.consumer import KafkaSource
        from lethe.stream.dead_letters import DeadLetters
        from lethe.stream.embedded_broker import EmbeddedBroker
        from tests.support.brokers import of_embedded
        from tests.support.sources import MemoryRecord
        from tests.support.streams import settings_of

        def tries(what):
            began = time.monotonic()
            try:
                what()
            except BrokerUnavailable:
                print("unavailable", time.monotonic() - began < 30, threading.active_count() - threads)

        with EmbeddedBroker() as embedded:
            settings = settings_of(of_embedded(embedded), "images")
            embedded.down()
            threads = threading.active_count()
            tries(lambda: KafkaSource(settings))
            letter = MemoryRecord(0, 0, None, []), MalformedRecord("null_value", "no value")
            tries(lambda: DeadLetters(settings).send(*letter))
    """
    assert in_a_process(program) == ["unavailable True 0"] * 2


def test_the_dead_letter_topic_is_created_once(broker: StreamBroker, topic: str) -> None:
    if broker.kind == "embedded":
        broker.create_topic(topic, 1)  # it cannot be asked to create one, but knows what it has
    ensure_topic(settings_of(broker, topic), topic)
    ensure_topic(settings_of(broker, topic), topic)
    source = KafkaSource(settings_of(broker, topic))
    assert source.partitions == [0]
    source.close()


@pytest.mark.parametrize(("accept_loss", "error"), [(False, PositionLost), (True, BrokerUnavailable)])
def test_a_truncated_log_is_reported_or_read_again(
    accept_loss: bool,
    error: type[Exception],
    broker: StreamBroker,
    topic: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker.create_topic(topic, 1)
    source = KafkaSource(settings_of(broker, topic, accept_loss=accept_loss))
    source.seek({})

    def cut(**_: object) -> None:
        raise LogTruncationError({TopicPartition(topic, 0): 7})

    monkeypatch.setattr(source._consumer, "poll", cut)  # one node alone has no leader election to be unclean
    with pytest.raises(error, match="its log was truncated"):
        source.poll(0.1, 500, ())
    source.close()
