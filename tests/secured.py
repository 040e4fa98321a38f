"""A node of Apache Kafka that lets in those who have a password, over TLS with a certificate of its own."""

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
from tests.brokers import StreamBroker, of_kafka

__all__ = ["USER", "SecuredCluster", "secured_cluster"]

USER: Final = "lethe"
MODULES: Final = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class SecuredCluster:
    """Where it is, and what it takes to be let in; ``inside`` is a way in that is not secured."""

    bootstrap_servers: str
    inside: StreamBroker
    ca: Path
    """Certificates that vouch for the cluster."""
    password: Path
    """The file with the password of `USER`."""

    def security(self, mechanism: str = "SCRAM-SHA-512", **changes: str) -> dict[str, str]:
        """Return kafka-python's options of a client that is let in; ``changes`` make it one that is not."""
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
    """Run one node whose passwords and certificate are made up on the spot."""
    password, ca, store = folder / "password", folder / "ca.pem", folder / "node.p12"
    word, key = secrets.token_hex(12), secrets.token_hex(12)
    password.write_text(word + "\n")
    _keytool(store, key, "-genkeypair", "-keyalg", "EC", "-dname", "CN=lethe", "-ext", "san=ip:127.0.0.1")
    _keytool(store, key, "-exportcert", "-rfc", "-file", str(ca))
    port = free_port()
    properties = {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": (
            f'{MODULES}.plain.PlainLoginModule required user_{USER}="{word}";'
        ),
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
            f"{MODULES}.scram.ScramLoginModule required;"
        ),
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
        yield SecuredCluster(address, of_kafka(node), ca, password)


def _keytool(store: Path, key: str, *arguments: str) -> None:
    common = ["-keystore", str(store), "-storetype", "PKCS12", "-storepass", key, "-alias", "node"]
    subprocess.run(["keytool", *arguments, *common], check=True, capture_output=True, timeout=60)
