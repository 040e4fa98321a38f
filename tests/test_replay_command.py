"""The command lethe-replay, as a user runs it."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from producers.datasets import default_root
from producers.publisher import Broker, Publisher
from producers.replay import Tail
from service.probeset import load_folder
from tests.brokers import StreamBroker

COMMAND = [sys.executable, "-m", "producers"]


def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done


def options(broker: StreamBroker, topic: str) -> list[str]:
    version = broker.api_version
    api = [] if version is None else ["--api-version", ".".join(map(str, version))]
    return ["stream", "--bootstrap-servers", broker.bootstrap_servers, "--topic", topic, *api]


def test_help_is_shown_without_loading_torch_or_kafka() -> None:
    script = (
        "import sys; from producers.__main__ import app\n"
        "app(['stream', '--help'], standalone_mode=False)\n"
        "sys.exit(','.join({'torch', 'torchvision', 'kafka'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == ""
    assert "--hold-back" in done.stdout


def test_the_scenarios_are_listed_with_their_lengths() -> None:
    listed = run("scenarios").stdout
    assert "split-mnist" in listed
    assert "120,000" in listed


def test_an_error_is_one_line_on_stderr_and_exit_code_2(tmp_path: Path) -> None:
    done = run("probes", "--scenario", "styx", "--out", str(tmp_path), code=2)
    assert done.stdout == ""
    assert done.stderr.startswith("styx is neither a file nor one of ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("version", ["new", "2.", ""])
def test_a_version_that_is_none_is_refused(version: str, tmp_path: Path) -> None:
    arguments = ["--bootstrap-servers", "127.0.0.1:9", "--topic", "t", "--api-version", version]
    assert "api-version is" in run("stream", *arguments, "--root", str(tmp_path), code=2).stderr


@pytest.mark.needs("datasets")
def test_probes_are_written_once_into_a_folder(tmp_path: Path) -> None:
    out = str(tmp_path / "probes")
    written = run("probes", "--scenario", "fashion-to-mnist", "--out", out).stdout.split()
    assert [Path(path).name for path in written] == ["00-fashion-mnist.safetensors", "01-mnist.safetensors"]
    assert [len(probe.y_N) for probe in load_folder(Path(out))] == [10_000, 10_000]
    assert "already holds probe files" in run("probes", "--out", out, code=2).stderr


@pytest.mark.needs("datasets")
def test_data_shows_every_file_and_where_it_came_from() -> None:
    shown = run("data", "--root", str(default_root())).stdout
    assert shown.count("ok ") == 8


@pytest.mark.needs("datasets")
def test_an_interrupted_stream_is_resumed_without_a_gap_or_a_double(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 3)
    stream = [*options(broker, topic), "--samples", "500", "--scenario", "recurring"]
    with Publisher(Broker(broker.bootstrap_servers, broker.api_version), topic) as publisher:
        first = subprocess.Popen(
            [*COMMAND, *stream, "--rate", "250"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 60
        while publisher.tails()[0].end < 20:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        first.send_signal(signal.SIGINT)
        _, said = first.communicate(timeout=60)
        assert first.returncode == 130
        assert "The same command with --resume sends them." in said
        sent = sum(tail.end for tail in publisher.tails())
        assert 60 <= sent < 2000
        assert f"{2000 - sent:,} of 2,000 records are not sent" in said
        assert f"{2000 - sent:,} of {2000 - sent:,}" in run(*stream, "--resume").stdout
        ends = [Tail(667, b"recurring@500/0/1998"), Tail(667, b"recurring@500/0/1999")]
        assert publisher.tails() == [*ends, Tail(666, b"recurring@500/0/1997")]


@pytest.fixture
def slow_service() -> Iterator[tuple[str, list[int]]]:
    """The address of a service that has learned 60 more records at each question, and what it answered."""
    answers: list[int] = []

    class State(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers.append(60 * len(answers))
            body = json.dumps({"positions": {"0": answers[-1]}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), State) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/state", answers
        server.shutdown()
        thread.join()


@pytest.mark.needs("datasets")
@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_a_stream_is_held_back_by_a_services_state(
    broker: StreamBroker, topic: str, slow_service: tuple[str, list[int]]
) -> None:
    broker.create_topic(topic, 1)
    url, answers = slow_service
    window = ["--hold-back", url, "--window", "80"]
    shown = run(*options(broker, topic), "--samples", "150", *window).stdout
    assert "300 of 300" in shown
    assert answers == [0, 60, 120, 180, 240]
