"""Runs one node of Apache Kafka, broker and controller in one JVM, on 127.0.0.1."""

import base64
import secrets
import shutil
import socket
import struct
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from deploy.kafka.jars import NodeError, complete, fetch, find_java

__all__ = ["FAST_RETENTION", "PROPERTIES", "KafkaNode", "free_port"]

HOST: Final = "127.0.0.1"
HERE: Final = Path(__file__).resolve().parent
START_SECONDS: Final = 180.0
STOP_SECONDS: Final = 30.0
HEAP: Final = "512m"
PORTS: Final = range(20_000, 32_000)
API_VERSIONS: Final = 18
LOG_LINES: Final = 20

PROPERTIES: Final = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": (
        "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL"
    ),
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    # A killed node can return only after its old session has expired; the default is 9 s.
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "500",
    # One node holds one replica; a single group does not need fifty partitions.
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
}


FAST_RETENTION: Final = {
    "log.retention.check.interval.ms": "500",
    "log.initial.task.delay.ms": "500",
    "log.segment.delete.delay.ms": "100",
}
"""Properties with which deleted log segments leave the disk within about a second instead of six minutes."""


def free_port() -> int:
    """Return an unused port of 127.0.0.1 outside the range of ephemeral ports."""
    while True:
        # Not port 0: while a node is down, one of its clients could be assigned its port.
        port = secrets.choice(PORTS)
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) != 0:
                return port


class KafkaNode:
    """A broker and controller in a JVM of its own, with its data in ``directory``.

    On Linux the node is killed together with the thread that started it, so that a killed test leaves no
    JVM. ``properties`` override `PROPERTIES`; see also `FAST_RETENTION`. ``listeners`` are added to the
    plain one at ``port``, such as ``SASL_SSL://127.0.0.1:9093``.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        properties: Mapping[str, str] | None = None,
        listeners: Sequence[str] = (),
    ) -> None:
        self.directory = directory.resolve()
        self.port = port or free_port()
        self._properties = dict(properties or {})
        self._listeners = tuple(listeners)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """``127.0.0.1:PORT``, the same after a restart."""
        return f"{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        """Path of the node's log."""
        return self.directory / "node.log"

    def start(self) -> None:
        """Start the node and wait until it responds; do nothing if it is running.

        Raises:
            NodeError: it could not be fetched, ended early or did not respond in time.
        """
        if self._process is not None and self._process.poll() is None:
            return
        java, jars = find_java(), fetch()
        if _answers(self.port):
            raise NodeError(f"port {self.port} is taken by another server")
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self._write_config()
        command = [java, f"-Xmx{HEAP}", f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"]
        command += ["-cp", f"{jars}/*"]
        if not (self.directory / "data" / "meta.properties").exists():
            self._format(command, config)
        setpriv = shutil.which("setpriv")
        tied = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*tied, *command, "kafka.Kafka", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the parent only, which stops the node
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Stop the node cleanly; do nothing if it is not running.

        Raises:
            NodeError: it had to be killed.
        """
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as late:
            self.kill()
            raise NodeError(f"Kafka did not stop within {STOP_SECONDS:.0f} s and was killed") from late
        self._process = None

    def kill(self) -> None:
        """Kill the node immediately, without a clean shutdown."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stop the node and start it again on the same port with the same data."""
        self.stop()
        self.start()

    def wait(self) -> int:
        """Wait until the node ends by itself, and return its exit status."""
        return 0 if self._process is None else self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.stop()

    def _write_config(self) -> Path:
        controller = next(port for port in iter(free_port, None) if port != self.port)
        properties = PROPERTIES | {
            "controller.quorum.voters": f"1@{HOST}:{controller}",
            "listeners": ",".join(
                [f"PLAINTEXT://{HOST}:{self.port}", f"CONTROLLER://{HOST}:{controller}", *self._listeners]
            ),
            "log.dirs": str(self.directory / "data"),
            **self._properties,
        }
        config = self.directory / "node.properties"
        config.write_text("".join(f"{key}={value}\n" for key, value in properties.items()), "utf-8")
        return config

    def _format(self, command: list[str], config: Path) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", f"--config={config}"]
        complete(command + tool, f"Kafka could not format {self.directory}")

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(self.port):
            if process.poll() is not None:
                raise NodeError(f"Kafka ended with status {process.returncode}:\n{self._last_lines()}")
            if time.monotonic() > deadline:
                raise NodeError(f"Kafka did not respond within {START_SECONDS:.0f} s:\n{self._last_lines()}")
            time.sleep(0.05)

    def _last_lines(self) -> str:
        return "\n".join(self.log.read_text("utf-8", errors="replace").splitlines()[-LOG_LINES:])


def _answers(port: int) -> bool:
    """Return whether a broker on ``port`` answers an ApiVersions request."""
    correlation = 1
    request = struct.pack(">hhih", API_VERSIONS, 0, correlation, -1)
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            header = connection.recv(8, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(header) == 8 and struct.unpack(">ii", header)[1] == correlation
