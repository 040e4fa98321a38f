"""What is asked of a Kafka cluster as such: its topics; and its errors as ours."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from kafka.errors import (
    BrokerResponseError,
    KafkaConnectionError,
    KafkaError,
    LogTruncationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RetriableError,
    TopicAlreadyExistsError,
)

from service.errors import BrokerUnavailable, InvalidSetting, PositionLost
from service.stream.client import open_client
from service.stream.settings import StreamSettings, client_options

__all__ = ["ANSWER_SECONDS", "delete_topics", "ensure_topic", "kafka_errors", "open_admin"]

ANSWER_SECONDS: Final = 3.0
"""How long a broker that is there takes, at most, to answer a question."""


@contextmanager
def kafka_errors(settings: StreamSettings) -> Iterator[None]:
    """Turn kafka-python's errors into ours."""
    where = f"Kafka at {settings.bootstrap_servers}"
    try:
        yield
    except (OffsetOutOfRangeError, LogTruncationError, NoOffsetForPartitionError) as error:
        raise PositionLost(f"topic {settings.topic}: {error}") from error
    except (RetriableError, KafkaConnectionError) as error:
        reason = str(error) or type(error).__name__
        raise BrokerUnavailable(f"{where} does not answer ({reason})") from error
    except (KafkaError, BrokerResponseError) as error:
        raise InvalidSetting(f"{where}: {type(error).__name__}: {error}") from error


@contextmanager
def open_admin(settings: StreamSettings) -> Iterator[Any]:
    """Give an admin client, whose errors are ours. Raises BrokerUnavailable, InvalidSetting."""
    with kafka_errors(settings):
        patience = int(ANSWER_SECONDS * 1000)
        options = client_options(settings) | {
            "bootstrap_timeout_ms": patience,
            "request_timeout_ms": patience,
        }
        admin = open_client(KafkaAdminClient, **options)
        try:
            yield admin
        finally:
            admin.close()


def ensure_topic(
    settings: StreamSettings, name: str, partitions: int = 1, configs: Mapping[str, str] | None = None
) -> None:
    """Create topic ``name``, configured so, unless it is there.

    Raises BrokerUnavailable; InvalidSetting when the broker refuses.
    """
    with open_admin(settings) as admin, suppress(TopicAlreadyExistsError):
        # asked first: a cluster may list topics to those whom it lets create none
        if name not in admin.list_topics():
            admin.create_topics([NewTopic(name, partitions, -1, topic_configs=dict(configs or {}))])


def delete_topics(settings: StreamSettings, names: Sequence[str]) -> None:
    """Delete those of the topics ``names`` that are there. Raises as `ensure_topic`."""
    with open_admin(settings) as admin:
        admin.delete_topics([name for name in admin.list_topics() if name in names])
