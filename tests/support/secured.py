"""A node of Apache Kafka with SASL over TLS, and the client options to connect to it."""

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kafka import KafkaAdminClient
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from deploy.kafka.kraft import KafkaNode, free_port
from tests.support.brokers import StreamBroker, of_kafka

__all__ = ["STRANGER", "USER", "SecuredCluster", "secured_cluster"]

USER: Final = "lethe"
"""May do everything."""
STRANGER: Final = "stranger"
"""Has the same password (mechanism PLAIN), and no right to any topic or group."""
MODULES: Final = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class SecuredCluster:
    """The cluster's addresses and credentials; ``inside`` is a listener without security."""

    bootstrap_servers: str
    inside: StreamBroker
    ca: Path
    """File of the CA certificate."""
    other_ca: Path
    """A CA certificate that did not sign the cluster's."""
    password: Path
    """The file with the password of `USER`."""

    def security(self, mechanism: str = "SCRAM-SHA-512", **changes: str) -> dict[str, str]:
        """Return kafka-python's options of an authorised client, with ``changes``."""
        return {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": mechanism,
            "sasl_plain_username": USER,
            "sasl_plain_password": f"@{self.password}",
            "ssl_cafile": str(self.ca),
            **changes,
        }


@contextmanager
def secured_cluster(folder: Path) -> Iterator[SecuredCluster]:
    """Run one node with a generated password and certificate."""
    password, ca, other_ca = folder / "password", folder / "ca.pem", folder / "other.pem"
    word, key = secrets.token_hex(12), secrets.token_hex(12)
    password.write_text(word + "\n")
    store = _certificate(ca, key)
    _certificate(other_ca, key)
    port = free_port()
    properties = {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": (
            f'{MODULES}.plain.PlainLoginModule required user_{USER}="{word}" user_{STRANGER}="{word}";'
        ),
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
            f"{MODULES}.scram.ScramLoginModule required;"
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:ANONYMOUS;User:{USER}",
        "ssl.keystore.location": str(store),
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.password": key,
    }
    address = f"127.0.0.1:{port}"
    listeners = [f"SASL_SSL://{address}"]
    with KafkaNode(folder / "node", properties=properties, listeners=listeners) as node:
        with KafkaAdminClient(bootstrap_servers=node.bootstrap_servers) as admin:
            admin.alter_user_scram_credentials(
                [UserScramCredentialUpsertion(USER, ScramMechanism.SCRAM_SHA_512, word, iterations=4096)]
            )
        cluster = SecuredCluster(address, of_kafka(node), ca, other_ca, password)
        for mechanism in (
            "PLAIN",
            "SCRAM-SHA-512",
        ):  # a JVM's first handshake can take longer than a test waits
            options = cluster.security(mechanism) | {"sasl_plain_password": word}
            KafkaAdminClient(bootstrap_servers=address, api_version=(2, 6), **options).close()
        yield cluster


def _certificate(exported: Path, key: str) -> Path:
    """Make a certificate of its own authority; return its key store."""
    store = exported.with_suffix(".p12")
    _keytool(store, key, "-genkeypair", "-keyalg", "EC", "-dname", "CN=lethe", "-ext", "san=ip:127.0.0.1")
    _keytool(store, key, "-exportcert", "-rfc", "-file", str(exported))
    return store


def _keytool(store: Path, key: str, *arguments: str) -> None:
    common = ["-keystore", str(store), "-storetype", "PKCS12", "-storepass", key, "-alias", "node"]
    subprocess.run(["keytool", *arguments, *common], check=True, capture_output=True, timeout=60)
