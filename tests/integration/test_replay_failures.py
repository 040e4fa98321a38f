"""Failures of lethe-replay that a user can cause: one line with cause and remedy, never a traceback."""

import signal
import subprocess
import sys
import time
from itertools import count

import pytest
from kafka import KafkaAdminClient

from deploy.kafka.kraft import KafkaNode
from lethe.errors import BrokerUnavailable
from lethe.stream.connection import Cluster
from lethe_producers.publisher import Publisher
from lethe_producers.records import Record
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")


def record(index: int) -> Record:
    return Record(index, b"s/0/%d" % index, b"v", [])


def command(node: KafkaNode, topic: str, *more: str) -> list[str]:
    stream = [sys.executable, "-m", "lethe_producers", "stream", "--no-progress", "--scenario", "mnist"]
    return [*stream, "--bootstrap-servers", node.bootstrap_servers, "--topic", topic, *more]


@pytest.mark.needs("datasets")
def test_a_record_that_the_topic_rejects_is_named(kafka_node: KafkaNode, topic: str) -> None:
    with KafkaAdminClient(bootstrap_servers=kafka_node.bootstrap_servers) as admin:
        configs = {"max.message.bytes": "500"}
        wanted = {"num_partitions": 1, "replication_factor": 1, "configs": configs}
        admin.create_topics({topic: wanted}, wait_for_metadata=True)
    done = subprocess.run(
        command(kafka_node, topic, "--samples", "20"), capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"lethe-replay: topic {topic} at ")
    assert "MessageSizeTooLargeError" in done.stderr
    assert "max.message.bytes" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_topic_that_is_deleted_meanwhile_is_called_missing(kafka_node: KafkaNode, topic: str) -> None:
    with Publisher(Cluster(kafka_node.bootstrap_servers, timeout=5.0), topic) as publisher:
        publisher.send(record(0), 0)
        publisher.flush()
        with KafkaAdminClient(bootstrap_servers=kafka_node.bootstrap_servers) as admin:
            admin.delete_topics([topic])
        with pytest.raises(BrokerUnavailable, match=f"topic {topic} does not exist at .* any more"):
            send_on(publisher)


def send_on(publisher: Publisher) -> None:
    deadline = time.monotonic() + 90
    for index in count(1):
        assert time.monotonic() < deadline, "the topic still takes records"
        publisher.send(record(index), 0)
        publisher.flush()


def test_a_broker_that_is_killed_meanwhile_is_named(kafka_node: KafkaNode, topic: str) -> None:
    address = kafka_node.bootstrap_servers
    try:
        with Publisher(Cluster(address, timeout=5.0), topic) as publisher:
            publisher.send(record(0), 0)
            publisher.flush()
            kafka_node.kill()
            publisher.send(record(1), 0)
            with pytest.raises(BrokerUnavailable) as failed:
                publisher.flush()
            said = str(failed.value)
        assert said.startswith(f"the broker at {address} does not serve topic {topic}: ")
        assert "--resume" in said
        assert not any(word in said for word in ("None", "Future not done", "\n"))
    finally:
        kafka_node.start()


@pytest.mark.needs("datasets")
def test_ctrl_c_in_an_outage_ends_it_soon_and_reports_missing_records(
    kafka_node: KafkaNode, topic: str
) -> None:
    with Publisher(Cluster(kafka_node.bootstrap_servers), topic) as publisher:
        process = subprocess.Popen(
            command(kafka_node, topic, "--rate", "300"), stderr=subprocess.PIPE, text=True
        )
        try:
            until(lambda: sum(publisher.ends()) > 100, "the stream is running")
            kafka_node.kill()
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=120)
        finally:
            process.kill()
            kafka_node.start()
    assert process.returncode == 130
    assert said.startswith("Interrupted: ")
    assert kafka_node.bootstrap_servers in said
    assert said.count("\n") == 1
