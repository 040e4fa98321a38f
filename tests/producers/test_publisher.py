"""The publisher against both brokers: every record arrives, and a broker that cannot be used is named."""

import socket
import subprocess
import sys

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from deploy.kafka.kraft import KafkaNode
from lethe.errors import InvalidSetting
from lethe.stream.connection import Cluster
from lethe.wire import Reason
from lethe_producers.malformed import malformed
from lethe_producers.publisher import Publisher, short_lived
from lethe_producers.records import Record
from lethe_producers.replay import Tail
from tests.support.brokers import StreamBroker
from tests.support.samples import picture


def reached(broker: StreamBroker) -> Cluster:
    return Cluster(broker.bootstrap_servers, broker.api_version)


def read(
    broker: StreamBroker, topic: str, partitions: int, count: int
) -> dict[bytes, tuple[int, object, object]]:
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, api_version=broker.api_version)
    parts = [TopicPartition(topic, number) for number in range(partitions)]
    consumer.assign(parts)
    consumer.seek_to_beginning()
    found: dict[bytes, tuple[int, object, object]] = {}
    came = 0
    while came < count:
        polled = consumer.poll(timeout_ms=10_000)
        assert polled, f"only {came} of {count} records came"
        for part, records in polled.items():
            came += len(records)
            found |= {record.key: (part.partition, record.value, record.headers) for record in records}
    consumer.close()
    assert came == count
    return found


def test_every_record_arrives_once_in_its_partition_with_its_headers(
    broker: StreamBroker, topic: str
) -> None:
    broker.create_topic(topic, 3)
    with Publisher(reached(broker), topic) as publisher:
        assert publisher.partitions == 3
        for index in range(300):
            record = Record(index, b"s/0/%d" % index, b"v%d" % index, [("label", b"%d" % (index % 10))])
            publisher.send(record, index % 3)
        publisher.flush()
        assert publisher.acknowledged == 300
    found = read(broker, topic, 3, 300)
    assert found == {
        b"s/0/%d" % index: (index % 3, b"v%d" % index, [("label", b"%d" % (index % 10))])
        for index in range(300)
    }


def test_the_last_record_of_a_stream_is_found_in_each_partition_before_any_other_records(
    broker: StreamBroker, topic: str
) -> None:
    broker.create_topic(topic, 3)
    with Publisher(reached(broker), topic) as publisher:
        assert publisher.tails("s/0") == [Tail(0, None)] * 3
        for index in range(0, 15, 3):
            publisher.send(Record(index, b"s/0/%d" % index, b"", []), 0)
        for index in range(1, 40, 3):  # somebody else's stream
            publisher.send(Record(index, b"t/0/%d" % index, b"", []), 0)
            publisher.send(Record(index, b"t/0/%d" % index, b"", []), 1)
        publisher.flush()
        assert publisher.tails("s/0") == [Tail(18, b"s/0/12"), Tail(13, None), Tail(0, None)]
        assert publisher.ends() == [18, 13, 0]


def test_records_that_a_broker_may_refuse_get_through_in_their_order(
    broker: StreamBroker, topic: str
) -> None:
    broker.create_topic(topic, 1)
    odd = {3: Reason.OVERSIZED, 4: Reason.NULL_VALUE, 6: Reason.OVERSIZED}
    sent = {}
    with Publisher(reached(broker), topic) as publisher:
        for index in range(8):
            value, headers = malformed(picture(), odd.get(index, Reason.BAD_HEADER))
            sent[b"s/0/%d" % index] = (0, value, headers)
            publisher.send(Record(index, b"s/0/%d" % index, value, headers), 0)
        publisher.flush()
        assert publisher.acknowledged == 8
    found = read(broker, topic, 1, 8)
    assert found == sent
    assert list(found) == list(sent)


def test_another_number_of_partitions_than_the_topic_has_is_refused(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 2)
    with pytest.raises(InvalidSetting, match=f"partitions is 3, and topic {topic} has 2"):
        Publisher(reached(broker), topic, partitions=3)


@pytest.mark.parametrize("broker", ["kafka"], indirect=True)
def test_a_missing_topic_is_created(broker: StreamBroker, topic: str) -> None:
    with Publisher(reached(broker), topic, partitions=5) as publisher:
        assert publisher.partitions == 5


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_a_broker_that_creates_no_topics_is_named(broker: StreamBroker, topic: str) -> None:
    with pytest.raises(InvalidSetting, match=f"topic {topic} does not exist, and {broker.bootstrap_servers}"):
        Publisher(reached(broker), topic)


ABSENT = """
import sys
from lethe.stream.connection import Cluster
from lethe_producers.publisher import Publisher, short_lived
Publisher(Cluster(sys.argv[1], (2, 1) if sys.argv[2:] else None, timeout=0.5), "images")
"""


@pytest.mark.parametrize("versions", [[], ["2.1"]])
def test_a_broker_that_is_absent_is_named_after_a_bounded_wait(versions: list[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can answer there
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        # a process of its own: kafka-python leaves a thread and a socket when it finds no broker
        command = [sys.executable, "-c", ABSENT, address, *versions]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert f"BrokerUnavailable: the broker at {address} does not serve topic images" in done.stderr


@pytest.mark.needs("kafka")
def test_a_topic_with_a_retention_soon_deletes_purged_records(kafka_node: KafkaNode, topic: str) -> None:
    configs = short_lived(1800)
    with Publisher(Cluster(kafka_node.bootstrap_servers), topic, 1, configs=configs):
        pass
    with KafkaAdminClient(bootstrap_servers=kafka_node.bootstrap_servers) as admin:
        answer = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    assert all(f"'{value}'" in str(answer) for value in ("1800000", "1048576", "60000")), answer
