"""A common interface to the two brokers that stream tests run against."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from kafka import KafkaAdminClient

from deploy.kafka.kraft import KafkaNode
from lethe.stream.embedded_broker import API_VERSION, EmbeddedBroker

__all__ = ["StreamBroker", "of_embedded", "of_kafka"]


@dataclass(frozen=True, slots=True)
class StreamBroker:
    """A running broker; ``api_version`` is kafka-python's option (None: detect)."""

    kind: Literal["embedded", "kafka"]
    bootstrap_servers: str
    api_version: tuple[int, int] | None
    create_topic: Callable[[str, int], None]


def of_embedded(broker: EmbeddedBroker) -> StreamBroker:
    return StreamBroker("embedded", broker.bootstrap_servers, API_VERSION, broker.create_topic)


def of_kafka(node: KafkaNode) -> StreamBroker:
    def create_topic(name: str, partitions: int) -> None:
        with KafkaAdminClient(bootstrap_servers=node.bootstrap_servers) as admin:
            topic = {name: {"num_partitions": partitions, "replication_factor": 1}}
            admin.create_topics(topic, wait_for_metadata=True)

    return StreamBroker("kafka", node.bootstrap_servers, None, create_topic)
