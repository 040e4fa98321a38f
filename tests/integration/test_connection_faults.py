"""Every fault of a connection ends, in time, with one line that names what to correct."""

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from threading import Thread

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from lethe.errors import BrokerUnavailable, InvalidSetting, LetheError
from lethe.stream.consumer import KafkaSource
from lethe.stream.dead_letters import DeadLetters
from lethe.stream.line_topic import LineTopic
from lethe.stream.settings import StreamSettings
from tests.support.secured import STRANGER, USER, SecuredCluster, secured_cluster

pytestmark = pytest.mark.needs("kafka")

TOPIC = "images"
LONGEST_SECONDS = 60.0
"""Several timeouts of three seconds, on a busy machine."""


@dataclass(frozen=True)
class Place:
    """The cluster, and servers that are not Kafka."""

    cluster: SecuredCluster
    addresses: Mapping[str, str]

    def settings(self, attempt: "Attempt") -> StreamSettings:
        cluster = self.cluster
        security = {
            "security_protocol": attempt.protocol,
            "sasl_mechanism": attempt.mechanism,
            "sasl_plain_username": attempt.user,
            "sasl_plain_password": {"right": f"@{cluster.password}", "wrong": "styx", "": ""}[
                attempt.password
            ],
            "ssl_cafile": {"right": str(cluster.ca), "other": str(cluster.other_ca), "": ""}[attempt.ca],
        }
        given = {name: value for name, value in security.items() if value}
        servers = self.addresses[attempt.server]
        return StreamSettings(bootstrap_servers=servers, topic=attempt.topic, security=given)


@dataclass(frozen=True)
class Attempt:
    """A way to connect; the defaults are correct."""

    server: str = "secured"
    protocol: str = "SASL_SSL"
    mechanism: str = "SCRAM-SHA-512"
    user: str = USER
    password: str = "right"
    ca: str = "right"
    topic: str = TOPIC

    @property
    def is_right(self) -> bool:
        if self.topic != TOPIC:
            return False
        if self.server == "plain":
            return self.protocol == "PLAINTEXT"
        known = self.user == USER and self.mechanism in {"PLAIN", "SCRAM-SHA-512"}
        secured = self.server == "secured" and self.protocol == "SASL_SSL"
        return secured and known and self.password == "right" and self.ca == "right"


ATTEMPTS = st.builds(
    Attempt,
    server=st.sampled_from(["secured", "secured", "secured", "plain", "closed", "silent", "other"]),
    protocol=st.sampled_from(["SASL_SSL", "SASL_SSL", "SSL", "SASL_PLAINTEXT", "PLAINTEXT", "TLS"]),
    mechanism=st.sampled_from(["SCRAM-SHA-512", "PLAIN", "SCRAM-SHA-256", "DIGEST", ""]),
    user=st.sampled_from([USER, USER, STRANGER, "nobody", ""]),
    password=st.sampled_from(["right", "right", "wrong", ""]),
    ca=st.sampled_from(["right", "right", "other", ""]),
    topic=st.sampled_from([TOPIC, TOPIC, "styx"]),
)


@contextmanager
def not_a_broker(answer: bytes | None) -> Iterator[str]:
    """A server that gives every client this answer, or none."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        clients = []

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                clients.append(client)
                if answer is not None:
                    with suppress(OSError):  # the client may be gone
                        client.sendall(answer)

        Thread(target=serve, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for client in clients:
                client.close()


@contextmanager
def nobody() -> Iterator[str]:
    """An address that nobody listens at, nor can begin to."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with (
        secured_cluster(tmp_path_factory.mktemp("secured")) as cluster,
        nobody() as closed,
        not_a_broker(None) as silent,
        not_a_broker(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n") as other,
    ):
        cluster.inside.create_topic(TOPIC, 1)
        addresses = {
            "secured": cluster.bootstrap_servers,
            "plain": cluster.inside.bootstrap_servers,
            "closed": closed,
            "silent": silent,
            "other": other,
        }
        yield Place(cluster, addresses)


@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.generate])  # shrinking takes minutes
@given(ATTEMPTS)
@example(Attempt())
@example(Attempt(mechanism="PLAIN"))
@example(Attempt(server="plain", protocol="PLAINTEXT"))
def test_a_connection_succeeds_if_every_option_is_right_and_else_names_the_wrong_one(
    place: Place, attempt: Attempt
) -> None:
    stream, began = place.settings(attempt), time.monotonic()
    try:
        with closing(KafkaSource(stream)) as source:
            assert source.ends() == {0: 0}
        said = ""
    except LetheError as error:
        said = str(error)
    assert time.monotonic() - began < LONGEST_SECONDS
    assert (said == "") == attempt.is_right, said
    if said:
        assert len(said.splitlines()) == 1
        assert "styx" not in said.replace(f"topic {attempt.topic}", ""), "a password"
        assert any(name in said for name in ("security", f"topic {attempt.topic}", stream.bootstrap_servers))


FAULTS: list[tuple[Attempt, type[LetheError], str]] = [
    (Attempt(server="closed"), BrokerUnavailable, "Connection refused"),
    (Attempt(server="silent", protocol="PLAINTEXT"), BrokerUnavailable, "Kafka at 127.0.0.1:"),
    (Attempt(server="other", protocol="PLAINTEXT"), BrokerUnavailable, "Kafka at 127.0.0.1:"),
    (Attempt(server="silent"), BrokerUnavailable, "Kafka at 127.0.0.1:"),
    (Attempt(server="plain"), BrokerUnavailable, "does not speak security_protocol SASL_SSL"),
    (Attempt(protocol="SASL_PLAINTEXT"), InvalidSetting, "security_protocol: .* in TLS"),
    (Attempt(password="wrong"), InvalidSetting, "sasl_plain_password: the cluster rejects them"),
    (Attempt(ca="other"), InvalidSetting, "ssl_cafile: the cluster's certificate is unknown"),
    (Attempt(topic="styx"), BrokerUnavailable, "topic styx does not exist at .*; create it, or correct"),
    (Attempt(user=STRANGER, mechanism="PLAIN"), InvalidSetting, "right to use topic images .* security"),
]


@pytest.mark.parametrize(("attempt", "kind", "said"), FAULTS, ids=[case[2] for case in FAULTS])
def test_a_fault_is_named_with_its_setting(
    place: Place, attempt: Attempt, kind: type[LetheError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        KafkaSource(place.settings(attempt))


def test_a_user_without_the_right_to_write_is_named_by_what_writes(place: Place) -> None:
    stranger = place.settings(Attempt(user=STRANGER, mechanism="PLAIN"))
    with pytest.raises(InvalidSetting, match="stranger-lines"):
        LineTopic(stranger, "stranger-lines").append("head", "key")
    letters = DeadLetters(stranger)
    with pytest.raises(LetheError, match=r"images\.dead-letters"):
        letters._open()
    letters.close()
