"""The embedded broker, through the client that the service uses."""

import socket
import subprocess
import sys
import textwrap

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import OffsetOutOfRangeError
from kafka.structs import OffsetAndMetadata

from lethe.errors import InvalidSetting
from lethe.stream import embedded_broker as embedded
from lethe.stream.embedded_broker import API_VERSION, PARTITION_BYTES, EmbeddedBroker


def producer(broker: EmbeddedBroker) -> KafkaProducer:
    return KafkaProducer(bootstrap_servers=broker.bootstrap_servers, api_version=API_VERSION)


def consumer(broker: EmbeddedBroker) -> KafkaConsumer:
    return KafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers,
        api_version=API_VERSION,
        auto_offset_reset="none",
        enable_auto_commit=False,
    )


def read(client: KafkaConsumer, partition: TopicPartition, count: int, start: int = 0) -> list[bytes]:
    client.assign([partition])
    client.seek(partition, start)
    values: list[bytes] = []
    while len(values) < count:
        for records in client.poll(timeout_ms=5000).values():
            values += [record.value for record in records]
    return values


def send(broker: EmbeddedBroker, topic: str, values: list[bytes], partition: int = 0) -> None:
    with producer(broker) as client:
        for value in values:
            client.send(topic, value, partition=partition)
        client.flush(timeout=10)


def test_a_record_is_read_back_with_its_key_and_headers(embedded_broker: EmbeddedBroker) -> None:
    embedded_broker.create_topic("images", 1)
    with producer(embedded_broker) as out:
        out.send(
            "images", value=b"pixels", key=b"k", headers=[("label", b"3"), ("label", b"4")], partition=0
        ).get(timeout=10)
    with consumer(embedded_broker) as client:
        client.assign([TopicPartition("images", 0)])
        client.seek(TopicPartition("images", 0), 0)
        (record,) = client.poll(timeout_ms=5000)[TopicPartition("images", 0)]
    assert (record.offset, record.key, record.value) == (0, b"k", b"pixels")
    assert list(record.headers) == [("label", b"3"), ("label", b"4")]


def test_each_of_four_partitions_counts_its_own_offsets(embedded_broker: EmbeddedBroker) -> None:
    embedded_broker.create_topic("images", 4)
    for partition in range(4):
        send(embedded_broker, "images", [b"x"] * (partition + 1), partition)
    partitions = [TopicPartition("images", p) for p in range(4)]
    with consumer(embedded_broker) as client:
        assert client.partitions_for_topic("images") == {0, 1, 2, 3}
        assert client.end_offsets(partitions) == {p: p.partition + 1 for p in partitions}


@pytest.mark.needs("embedded")
def test_two_brokers_in_one_process_are_independent() -> None:
    partition = TopicPartition("images", 0)
    with EmbeddedBroker() as one, EmbeddedBroker() as other:
        for broker, value in ((one, b"one"), (other, b"other")):
            broker.create_topic("images", 1)
            send(broker, "images", [value])
        with consumer(one) as client:
            assert read(client, partition, 1) == [b"one"]
        with consumer(other) as client:
            assert read(client, partition, 1) == [b"other"]


def test_deleted_records_cannot_be_read_and_the_rest_stay(embedded_broker: EmbeddedBroker) -> None:
    partition = TopicPartition("images", 0)
    embedded_broker.create_topic("images", 1)
    # One produce request each: the broker stores message sets and cuts between them.
    for value in (b"0", b"1", b"2", b"3"):
        send(embedded_broker, "images", [value])
    embedded_broker.delete_records("images", 0, before_offset=2)
    with consumer(embedded_broker) as client:
        assert client.beginning_offsets([partition]) == {partition: 2}
        assert read(client, partition, 2, start=2) == [b"2", b"3"]
        client.seek(partition, 0)
        with pytest.raises(OffsetOutOfRangeError):
            client.poll(timeout_ms=5000)


def test_a_full_partition_drops_its_oldest_records(
    embedded_broker: EmbeddedBroker,
) -> None:
    partition = TopicPartition("images", 0)
    embedded_broker.create_topic("images", 1)
    record = bytes(100_000)
    fitting = PARTITION_BYTES // (len(record) + 200)  # 200: more than a message set adds
    with producer(embedded_broker) as out, consumer(embedded_broker) as client:
        for _ in range(fitting):
            out.send("images", record, partition=0).get(timeout=10)
        assert client.beginning_offsets([partition]) == {partition: 0}
        out.send("images", record, partition=0).get(timeout=10)
        assert client.beginning_offsets([partition]) == {partition: 1}


def test_records_survive_an_outage(embedded_broker: EmbeddedBroker) -> None:
    embedded_broker.create_topic("images", 1)
    send(embedded_broker, "images", [b"kept"])
    host, port = embedded_broker.bootstrap_servers.split(":")
    embedded_broker.down()
    with pytest.raises(OSError, match="refused"), socket.create_connection((host, int(port)), timeout=5):
        pass
    embedded_broker.up()
    with consumer(embedded_broker) as client:
        assert read(client, TopicPartition("images", 0), 1) == [b"kept"]


def test_a_consumer_group_commits_and_reads_back_its_position(embedded_broker: EmbeddedBroker) -> None:
    partition = TopicPartition("images", 0)
    embedded_broker.create_topic("images", 1)
    send(embedded_broker, "images", [b"0", b"1"])
    for expected, following in ((None, 1), (1, 2)):
        with KafkaConsumer(
            bootstrap_servers=embedded_broker.bootstrap_servers, api_version=API_VERSION, group_id="lethe"
        ) as client:
            client.assign([partition])
            assert client.committed(partition) == expected
            client.commit({partition: OffsetAndMetadata(following, "", -1)})


def test_only_loopback_is_listened_on(embedded_broker: EmbeddedBroker) -> None:
    host, port = embedded_broker.bootstrap_servers.split(":")
    assert host == "127.0.0.1"
    with socket.socket() as other:
        other.bind(("127.0.0.2", int(port)))  # fails if the broker listens on every address


@pytest.mark.needs("embedded")
def test_closing_frees_the_port_and_may_be_repeated() -> None:
    broker = EmbeddedBroker()
    host, port = broker.bootstrap_servers.split(":")
    broker.close()
    broker.close()
    with pytest.raises(OSError, match="refused"), socket.create_connection((host, int(port)), timeout=5):
        pass
    with pytest.raises(ValueError, match="closed"):
        broker.create_topic("images", 1)


def test_what_does_not_exist_is_named_in_the_error(embedded_broker: EmbeddedBroker) -> None:
    embedded_broker.create_topic("images", 1)
    with pytest.raises(ValueError, match=r"topic images: .*exists"):
        embedded_broker.create_topic("images", 1)
    with pytest.raises(ValueError, match="topic empty: partitions must be at least 1"):
        embedded_broker.create_topic("empty", 0)
    with pytest.raises(ValueError, match="topic nowhere, partition 0"):
        embedded_broker.delete_records("nowhere", 0, before_offset=1)
    with pytest.raises(ValueError, match="topic images, partition 0, offset 9"):
        embedded_broker.delete_records("images", 0, before_offset=9)


@pytest.mark.needs("embedded")
def test_nothing_is_written_to_stderr() -> None:
    program = """
        from lethe.stream.embedded_broker import EmbeddedBroker
        with EmbeddedBroker() as broker:
            broker.create_topic("images", 1)
            broker.down()
            broker.up()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka.cimpl", None)
    with pytest.raises(InvalidSetting, match=r"pip install 'lethe\[embedded\]'"):
        EmbeddedBroker()


def test_a_library_without_the_functions_says_what_to_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    import _ctypes

    monkeypatch.setattr(embedded, "import_module", lambda name: _ctypes)
    with pytest.raises(InvalidSetting, match="newer confluent-kafka"):
        EmbeddedBroker()
