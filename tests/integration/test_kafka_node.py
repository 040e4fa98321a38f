"""Apache Kafka as deploy/kafka runs it."""

import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaTimeoutError

from deploy.kafka import kraft
from deploy.kafka.jars import NodeError
from deploy.kafka.kraft import FAST_RETENTION, KafkaNode, free_port
from tests.support.brokers import StreamBroker

pytestmark = pytest.mark.needs("kafka")

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def own_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaNode]:
    """A node that the tests of this module may stop and kill."""
    properties = {"auto.create.topics.enable": "true", **FAST_RETENTION}
    node = KafkaNode(tmp_path_factory.mktemp("own"), properties=properties)
    yield node
    node.kill()


def send(servers: str, topic: str, value: bytes) -> None:
    with KafkaProducer(bootstrap_servers=servers) as producer:
        producer.send(topic, value).get(timeout=30)


def read(servers: str, topic: str, count: int) -> list[bytes]:
    partition = TopicPartition(topic, 0)
    values: list[bytes] = []
    deadline = time.monotonic() + 90
    with KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest") as consumer:
        consumer.assign([partition])
        while len(values) < count and time.monotonic() < deadline:
            values += [record.value for record in consumer.poll(timeout_ms=1000).get(partition, [])]
    return values


def listens(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as client:
        return client.connect_ex((host, port)) == 0


def wait_until_closed(port: int) -> None:
    deadline = time.monotonic() + 90
    while listens(port):
        assert time.monotonic() < deadline, f"port {port} is still open"
        time.sleep(0.1)


def test_both_brokers_offer_the_partitions_asked_for(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 3)
    with KafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers, api_version=broker.api_version
    ) as consumer:
        assert consumer.partitions_for_topic(topic) == {0, 1, 2}


def test_a_record_sent_to_either_broker_is_read_back(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    servers, version = broker.bootstrap_servers, broker.api_version
    with KafkaProducer(bootstrap_servers=servers, api_version=version) as producer:
        producer.send(topic, b"pixels", headers=[("label", b"3")]).get(timeout=30)
    partition = TopicPartition(topic, 0)
    with KafkaConsumer(
        bootstrap_servers=servers, api_version=version, auto_offset_reset="earliest"
    ) as consumer:
        consumer.assign([partition])
        (record,) = consumer.poll(timeout_ms=60_000)[partition]
    assert (record.offset, record.value, list(record.headers)) == (0, b"pixels", [("label", b"3")])


def test_topics_are_not_created_automatically(kafka_node: KafkaNode, topic: str) -> None:
    servers = kafka_node.bootstrap_servers
    with (
        KafkaProducer(bootstrap_servers=servers, max_block_ms=1000) as producer,
        pytest.raises(KafkaTimeoutError),
    ):
        producer.send(topic, b"pixels")
    with KafkaAdminClient(bootstrap_servers=servers) as admin:
        assert topic not in admin.list_topics()


def test_only_loopback_is_listened_on(kafka_node: KafkaNode) -> None:
    assert kafka_node.bootstrap_servers == f"127.0.0.1:{kafka_node.port}"
    assert not listens(kafka_node.port, "127.0.0.2")


def test_records_survive_a_power_cut_and_the_address_stays(own_node: KafkaNode, topic: str) -> None:
    own_node.start()
    servers = own_node.bootstrap_servers
    send(servers, topic, b"kept")
    own_node.kill()
    assert not listens(own_node.port)
    own_node.restart()
    assert own_node.bootstrap_servers == servers
    assert read(servers, topic, 1) == [b"kept"]


def test_records_survive_a_clean_stop_and_can_be_served_on_another_port(
    own_node: KafkaNode, topic: str
) -> None:
    own_node.start()
    send(own_node.bootstrap_servers, topic, b"kept")
    own_node.stop()
    with KafkaNode(own_node.directory) as other:
        assert other.port != own_node.port
        assert read(other.bootstrap_servers, topic, 1) == [b"kept"]


def test_with_fast_retention_purged_bytes_leave_the_disk_within_seconds(
    own_node: KafkaNode, topic: str
) -> None:
    own_node.start()
    segments = own_node.directory / "data" / f"{topic}-0"
    with KafkaAdminClient(bootstrap_servers=own_node.bootstrap_servers) as admin:
        admin.create_topics({topic: {"num_partitions": 1, "configs": {"segment.bytes": str(1024 * 1024)}}})
        with KafkaProducer(bootstrap_servers=own_node.bootstrap_servers) as producer:
            for _ in range(8):
                producer.send(topic, b"pixels" * 40_000).get(timeout=30)
        before = {file.name for file in segments.glob("*.log")}
        assert len(before) > 1
        admin.delete_records({TopicPartition(topic, 0): 8})
        deadline = time.monotonic() + 90
        while before & {file.name for file in segments.iterdir()} != {max(before)}:
            assert time.monotonic() < deadline, sorted(file.name for file in segments.iterdir())
            time.sleep(0.1)


def test_a_taken_port_is_an_error(kafka_node: KafkaNode, tmp_path: Path) -> None:
    with pytest.raises(NodeError, match=f"port {kafka_node.port} is taken"):
        KafkaNode(tmp_path, port=kafka_node.port).start()


def test_a_property_that_kafka_refuses_is_shown_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match=r"num\.io\.threads"):
        KafkaNode(tmp_path, properties={"num.io.threads": "none"}).start()


def test_the_controller_never_gets_the_port_of_the_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setattr(kraft, "PORTS", [port] * 99 + [free_port()])
    with KafkaNode(tmp_path, port=port) as node:
        assert listens(node.port)


def test_the_command_prints_the_address_and_sigterm_stops_it(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "deploy/kafka/node.py", "run", "--port", str(port), "--dir", str(tmp_path)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"127.0.0.1:{port}\n"
        assert listens(port)
        process.terminate()
        assert process.wait(timeout=90) == 0
    assert not listens(port)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the parent-death signal of Linux")
def test_a_killed_owner_leaves_no_node(tmp_path: Path) -> None:
    port = free_port()
    program = f"""
        import os, signal
        from pathlib import Path
        from deploy.kafka.kraft import KafkaNode
        KafkaNode(Path({str(tmp_path)!r}), port={port}).start()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    owner = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=CHECKOUT, timeout=120)
    assert owner.returncode == -signal.SIGKILL
    wait_until_closed(port)
