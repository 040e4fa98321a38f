"""The reason why a client could not be opened is named if it is known."""

import pytest
from kafka import KafkaConsumer
from kafka.errors import KafkaError, KafkaTimeoutError

from lethe.errors import InvalidSetting
from lethe.stream.broker_errors import describe_timeout, unreachable_listener
from lethe.stream.connection import open_client


def test_a_failed_connection_is_the_reason_of_its_own_clusters_failures_alone() -> None:
    with pytest.raises(KafkaError):
        open_client(KafkaConsumer, bootstrap_servers=["127.0.0.1:1"], bootstrap_timeout_ms=50)
    late = KafkaTimeoutError(None)
    assert describe_timeout(late, ["127.0.0.1:1"]) == "no connection to 127.0.0.1:1: Connection refused"
    assert describe_timeout(late, ["127.0.0.1:2"]) == "KafkaTimeoutError: there was no answer in time"
    assert unreachable_listener(["127.0.0.1:1"]) == unreachable_listener(["127.0.0.1:2"]) == ""


def test_a_version_that_no_broker_ever_had_is_refused_by_its_setting() -> None:
    with pytest.raises(InvalidSetting, match="api-version"):
        open_client(KafkaConsumer, bootstrap_servers=["127.0.0.1:1"], api_version=(0, 1))
