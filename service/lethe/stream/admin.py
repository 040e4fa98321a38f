"""Administers topics of a cluster, and opens admin clients and producers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaConnectionError, KafkaError, RetriableError, TopicAlreadyExistsError

from lethe.errors import InvalidSetting
from lethe.stream.broker_errors import describe_error, kafka_errors
from lethe.stream.connection import ANSWER_SECONDS, Cluster, open_client
from lethe.stream.settings import StreamSettings

__all__ = [
    "create_if_missing",
    "delete_topics",
    "ensure_topic",
    "open_admin",
    "open_producer",
]

CLUSTER_DEFAULT: Final = -1
"""As a replication factor: what the cluster is configured with."""


@contextmanager
def open_admin(settings: StreamSettings) -> Iterator[Any]:
    """Give an admin client and map its errors as `kafka_errors`."""
    with kafka_errors(settings):
        cluster = Cluster.of(settings)
        admin = open_client(KafkaAdminClient, **cluster.options, request_timeout_ms=cluster.timeout_ms)
        try:
            yield admin
        finally:
            admin.close()


def open_producer(settings: StreamSettings, seconds: float, **more: Any) -> Any:
    """Return a producer whose records are acknowledged by all replicas within ``seconds``, or fail.

    ``more`` are options of kafka-python. Raises its errors, and InvalidSetting.
    """
    cluster = Cluster.of(settings, timeout=seconds)
    options = cluster.options | {
        "acks": "all",
        "max_block_ms": cluster.timeout_ms,
        "delivery_timeout_ms": cluster.timeout_ms,
        "request_timeout_ms": int(ANSWER_SECONDS * 1000),
    }
    return open_client(KafkaProducer, **options | more)


def create_if_missing(
    admin: Any,
    cluster: Cluster,
    name: str,
    partitions: int = 1,
    replication_factor: int = CLUSTER_DEFAULT,
    configs: Mapping[str, str] | None = None,
) -> bool:
    """Create topic ``name`` unless ``cluster`` has it, wait until it lists it; return whether it was created.

    Raises kafka-python's errors; InvalidSetting when the cluster does not let it be created.
    """
    # listed first: a cluster may list topics to users that cannot create any
    if name in admin.list_topics():
        return False
    wanted = {
        "num_partitions": partitions,
        "replication_factor": replication_factor,
        "configs": dict(configs or {}),
    }
    try:
        admin.create_topics({name: wanted}, wait_for_metadata=True)
    except TopicAlreadyExistsError:
        admin.wait_for_topics([name])  # created by another client meanwhile
        return False
    except (RetriableError, KafkaConnectionError):
        raise
    except KafkaError as error:
        replicas = "the default number of" if replication_factor == CLUSTER_DEFAULT else replication_factor
        raise InvalidSetting(
            f"topic {name} does not exist, and {cluster.bootstrap_servers} does not let it be created with "
            f"{partitions} partitions and {replicas} replicas: {describe_error(error)}"
        ) from error
    return True


def ensure_topic(
    settings: StreamSettings, name: str, partitions: int = 1, configs: Mapping[str, str] | None = None
) -> None:
    """Create topic ``name`` with ``configs`` unless it exists.

    Raises BrokerUnavailable; InvalidSetting when the cluster does not let it be created.
    """
    with open_admin(settings) as admin:
        create_if_missing(admin, Cluster.of(settings), name, partitions, configs=configs)


def delete_topics(settings: StreamSettings, names: Sequence[str]) -> None:
    """Delete those of the topics ``names`` that exist. Raises as `ensure_topic`."""
    with open_admin(settings) as admin:
        admin.delete_topics([name for name in admin.list_topics() if name in names])
