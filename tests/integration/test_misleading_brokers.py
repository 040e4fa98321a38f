"""The error for a broker that cannot be used names the failed address, or the topic, in one line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.kafka.kraft import KafkaNode
from lethe.errors import BrokerUnavailable
from lethe.stream.connection import Cluster
from lethe.stream.consumer import KafkaSource
from lethe.stream.settings import StreamSettings
from lethe_producers.publisher import Publisher
from tests.support.brokers import of_kafka
from tests.support.services import service
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")

ADVERTISED = {"unknown host": "kafka.internal.invalid:9092", "nobody listens": "127.0.0.1:1"}


@pytest.fixture(params=ADVERTISED)
def misleading(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[KafkaNode, str]]:
    """A broker that advertises another address than the one at which it is reached."""
    advertised = ADVERTISED[request.param]
    properties = {"advertised.listeners": f"PLAINTEXT://{advertised}"}
    with KafkaNode(tmp_path / "node", properties=properties) as node:
        yield node, advertised


def test_the_address_that_a_broker_advertises_is_named(misleading: tuple[KafkaNode, str]) -> None:
    node, advertised = misleading
    with pytest.raises(BrokerUnavailable) as by_service:
        KafkaSource(StreamSettings(bootstrap_servers=node.bootstrap_servers))
    with pytest.raises(BrokerUnavailable) as by_producer:
        Publisher(Cluster(node.bootstrap_servers, timeout=3.0), "images")
    for said in (str(by_service.value), str(by_producer.value)):
        assert f"names {advertised} as its own address (advertised.listeners)" in said
        assert "None" not in said
        assert not said.endswith(": ")
        assert "\n" not in said


def test_a_missing_topic_is_called_missing_everywhere(
    kafka_node: KafkaNode, topic: str, tmp_path: Path
) -> None:
    missing = f"topic {topic} does not exist at {kafka_node.bootstrap_servers}; create it"
    with service(of_kafka(kafka_node), topic, tmp_path) as run:
        until(lambda: missing in run.log, "the log says so")
        assert missing in run.state["broker"]["detail"]
        ready = run.get("/readyz")
        assert ready.status_code == 503
        assert missing in ready.text
