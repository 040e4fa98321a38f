"""``lethe run`` without a broker or a topic: it reports so first, and keeps trying."""

import gc
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.context import SpawnContext
from pathlib import Path

import pytest

from lethe.errors import InvalidSetting
from lethe.ingest.fork_server import start_fork_server
from lethe.ingest.reader_process import ProcessContext
from lethe.settings import Settings
from lethe.stream.embedded_broker import EmbeddedBroker
from lethe.stream.reachability import why_unreachable
from tests.support.brokers import of_embedded
from tests.support.commands import Lethe
from tests.support.services import service
from tests.support.waiting import until


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on which nothing listens, nor can begin to."""
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        yield other.getsockname()[1]


@pytest.fixture
def listener() -> Iterator[int]:
    """A port on which connections are accepted."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def test_a_broker_that_is_not_there_is_the_first_thing_that_is_said(closed_port: int) -> None:
    address = f"127.0.0.1:{closed_port}"
    command = [sys.executable, "-m", "lethe", "run", "--bootstrap-servers", address, "--port", "0"]
    with subprocess.Popen(
        command, env=os.environ | {"NO_COLOR": "1"}, stderr=subprocess.PIPE, text=True
    ) as run:
        try:
            assert run.stderr is not None
            first = next(run.stderr)
            assert (
                f"cannot connect to Kafka at {address}: Connection refused (stream.bootstrap_servers)"
                in first
            )
            assert "retrying until it answers" in first
            assert any("waiting for the broker" in line for line in run.stderr)  # it went on, and tried
            run.send_signal(signal.SIGTERM)
            assert run.wait(90) == 0
        finally:
            run.kill()


def test_garbage_is_collected_once_the_libraries_are_imported(
    monkeypatch: pytest.MonkeyPatch, lethe: Lethe
) -> None:
    collects = []

    def run_service(_: Settings, processes: ProcessContext) -> None:
        del processes
        collects.append(gc.isenabled())
        raise InvalidSetting("reached")

    monkeypatch.setattr("lethe.runtime.run.run_service", run_service)
    assert lethe.refuses("run") == "lethe: reached"
    assert collects == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_while_libraries_are_imported_ends_it_without_a_traceback(closed_port: int) -> None:
    command = [sys.executable, "-m", "lethe", "run", "--bootstrap-servers", f"127.0.0.1:{closed_port}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        try:
            started = Path(f"/proc/{run.pid}/task/{run.pid}/children")
            until(lambda: len(started.read_text().split()) == 2, "the fork server starts")
            server = started.read_text().split()[-1]
            assert blocked(server) >= {signal.SIGINT, signal.SIGTERM}, "it leaves them to the service"
            os.killpg(run.pid, signal.SIGINT)
            _, log = run.communicate(timeout=60)
            assert run.returncode == -signal.SIGINT
            assert "Traceback" not in log
        finally:
            run.kill()


def blocked(pid: str) -> set[int]:
    """The numbers of the signals that a process blocks."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigBlk:"))
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def test_without_a_folder_for_its_socket_there_is_no_fork_server_and_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def ensure_running() -> None:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("multiprocessing.forkserver.ensure_running", ensure_running)
    assert isinstance(start_fork_server(), SpawnContext)
    assert "reader processes start a second later: No usable temporary directory" in caplog.text
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_topic_that_is_not_there_is_named_and_waited_for(
    embedded_broker: EmbeddedBroker, topic: str, tmp_path: Path
) -> None:
    broker = of_embedded(embedded_broker)
    with service(broker, topic, tmp_path) as run:
        missing = f"waiting for the broker: topic {topic} does not exist at {broker.bootstrap_servers}"
        until(lambda: missing in run.log, "the missing topic is named")
        assert "cannot connect" not in run.log
        for name in (topic, f"{topic}.dead-letters"):
            broker.create_topic(name, 1)
        until(lambda: "the broker answers" in run.log, "the service has connected")


def test_one_address_that_accepts_connections_is_enough(closed_port: int, listener: int) -> None:
    assert why_unreachable(f"127.0.0.1:{closed_port}, 127.0.0.1:{listener}") == ""


def test_every_address_is_named_with_its_reason(closed_port: int) -> None:
    why = why_unreachable(f"127.0.0.1:{closed_port},styx.invalid:9092")
    assert why.startswith(f"127.0.0.1:{closed_port}: Connection refused; styx.invalid:9092: ")
