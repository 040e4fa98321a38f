"""A cluster with a password, over TLS: the whole path of a sample, and the errors of refused connections."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition

from lethe.errors import BrokerUnavailable, InvalidSetting, LetheError
from lethe.experiments.topics import publish, temporary_topic
from lethe.observability.result import RunResult
from lethe.stream.admin import open_admin
from lethe.stream.connection import Cluster, open_client
from lethe_producers.publisher import Publisher
from tests.support.brokers import StreamBroker
from tests.support.secured import SecuredCluster, secured_cluster
from tests.support.services import service
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")

SECURITY = "LETHE_STREAM__SECURITY"
SAMPLES = 300
"""Records of each segment: some of the poisoned scenario's are malformed."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredCluster]:
    with secured_cluster(tmp_path_factory.mktemp("secured")) as cluster:
        yield cluster


@pytest.fixture
def door(cluster: SecuredCluster) -> StreamBroker:
    """The cluster's secured address."""
    return StreamBroker("kafka", cluster.bootstrap_servers, None, cluster.inside.create_topic)


@pytest.mark.needs("datasets")
@pytest.mark.parametrize("mechanism", [pytest.param("PLAIN", marks=pytest.mark.long), "SCRAM-SHA-512"])
def test_producer_service_and_dead_letters_connect_with_a_password_from_a_file(
    cluster: SecuredCluster, door: StreamBroker, topic: str, mechanism: str, tmp_path: Path
) -> None:
    security = json.dumps(cluster.security(mechanism))
    command = [sys.executable, "-m", "lethe_producers", "stream", "--scenario", "poisoned", "--no-progress"]
    command += ["--samples", str(SAMPLES), "--topic", topic, "--bootstrap-servers", door.bootstrap_servers]
    subprocess.run([*command], env={**os.environ, SECURITY: security}, check=True, timeout=200)
    settings = {"STREAM__SECURITY": security, "STREAM__STOP_AFTER": 2 * SAMPLES}
    with service(door, topic, tmp_path, **settings) as run:
        assert run.process.wait(90) == 0, run.log
    counts = RunResult.read(run.report / "run.json").samples
    assert (counts.received, counts.lost, counts.resident) == (2 * SAMPLES, 0, 0)
    assert counts.dead_lettered > 0
    assert counts.learned + counts.dead_lettered == counts.received
    assert (tmp_path / "service.log").read_text().find(cluster.password.read_text().strip()) == -1


def test_topics_of_experiments_are_made_filled_and_deleted(
    cluster: SecuredCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECURITY, json.dumps(cluster.security()))
    with temporary_topic(cluster.bootstrap_servers, "test", partitions=2) as stream:
        publish(stream, 5 * [(b"x", [])])
        with open_client(KafkaConsumer, **Cluster.of(stream).options) as consumer:
            places = [TopicPartition(stream.topic, partition) for partition in range(2)]
            assert [consumer.end_offsets(places)[place] for place in places] == [3, 2]
    with open_admin(stream) as admin:
        until(lambda: stream.topic not in admin.list_topics(), "the topic is deleted")


SHUT: list[tuple[str, dict[str, str], type[LetheError], str]] = [
    ("password", {"sasl_plain_password": "styx"}, InvalidSetting, "sasl_plain_password: .* credentials"),
    (
        "password, PLAIN",
        {"sasl_plain_password": "styx", "sasl_mechanism": "PLAIN"},
        InvalidSetting,
        "sasl_plain_password: .* Invalid username or password",
    ),
    ("no password", {"sasl_plain_password": ""}, InvalidSetting, "sasl_plain_password: is missing"),
    ("mechanism", {"sasl_mechanism": "SCRAM-SHA-256"}, InvalidSetting, "sasl_mechanism: .* SCRAM-SHA-256"),
    ("certificates", {"ssl_cafile": ""}, InvalidSetting, "ssl_cafile: .* unknown to this system"),
    ("no file", {"ssl_cafile": "/styx/ca.pem"}, InvalidSetting, "ssl_cafile: /styx/ca.pem cannot be read"),
    ("no TLS", {"security_protocol": "SASL_PLAINTEXT"}, InvalidSetting, "security_protocol: .* in TLS"),
    ("no SASL", {"security_protocol": "SSL"}, BrokerUnavailable, "not speak security_protocol SSL"),
    ("protocol", {"security_protocol": "TLS"}, InvalidSetting, "security_protocol: 'TLS' is none of"),
    ("option", {"styx": "1"}, InvalidSetting, "'styx': kafka-python has no such option"),
]
"""What is wrong, the options that cause it, and the resulting error."""


@pytest.mark.parametrize(
    ("changes", "kind", "said"), [case[1:] for case in SHUT], ids=[case[0] for case in SHUT]
)
def test_a_wrong_option_is_named(
    cluster: SecuredCluster, topic: str, changes: dict[str, str], kind: type[LetheError], said: str
) -> None:
    security = {name: value for name, value in cluster.security(**changes).items() if value}
    with pytest.raises(kind, match=said):
        Publisher(Cluster(cluster.bootstrap_servers, timeout=3.0, security=security), topic)


def test_tls_with_a_listener_that_has_none_is_named(cluster: SecuredCluster, topic: str) -> None:
    plain = Cluster(cluster.inside.bootstrap_servers, timeout=3.0, security=cluster.security())
    with pytest.raises(BrokerUnavailable, match="not speak security_protocol SASL_SSL"):
        Publisher(plain, topic)


def test_a_service_with_a_wrong_password_ends_and_names_it(
    cluster: SecuredCluster, door: StreamBroker, topic: str, tmp_path: Path
) -> None:
    wrong = json.dumps(cluster.security(sasl_plain_password="styx"))
    with service(door, topic, tmp_path, STREAM__SECURITY=wrong) as run:
        assert run.process.wait(90) == 2, run.log
    assert "sasl_plain_username, sasl_plain_password: the cluster rejects them" in run.log
    assert "Traceback" not in run.log
