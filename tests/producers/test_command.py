"""The command lethe-replay, as a user runs it."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from lethe.probeset import load_folder, load_probe
from lethe.stream.connection import Cluster
from lethe_producers.datasets import default_root
from lethe_producers.publisher import Publisher
from lethe_producers.replay import Tail
from tests.support.brokers import StreamBroker
from tests.support.pictures import write_pictures
from tests.support.streams import received
from tests.support.waiting import until

COMMAND = [sys.executable, "-m", "lethe_producers"]


def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done


def error(*arguments: str) -> str:
    """What a failing command prints to stderr, after its own name."""
    said = run(*arguments, code=2).stderr
    assert said.startswith("lethe-replay: ")
    return said.removeprefix("lethe-replay: ")


def options(broker: StreamBroker, topic: str) -> list[str]:
    api_version = broker.api_version
    api = [] if api_version is None else ["--api-version", ".".join(map(str, api_version))]
    return ["stream", "--bootstrap-servers", broker.bootstrap_servers, "--topic", topic, *api]


def test_help_is_shown_without_loading_torch_or_kafka() -> None:
    script = (
        "import sys; from lethe_producers.__main__ import app\n"
        "app(['stream', '--help'], standalone_mode=False)\n"
        "sys.exit(','.join({'torch', 'torchvision', 'kafka'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == ""
    assert "--hold-back" in done.stdout


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version").stdout == f"lethe-replay {version('lethe')}\n"


def test_the_scenarios_are_listed_with_their_lengths() -> None:
    listed = run("scenarios").stdout
    assert "split-mnist" in listed
    assert "120,000" in listed


def test_an_error_is_one_line_on_stderr_and_exit_code_2(tmp_path: Path) -> None:
    done = run("probes", "--scenario", "styx", "--out", str(tmp_path), code=2)
    assert done.stdout == ""
    assert done.stderr.startswith("lethe-replay: scenario 'styx' is none of ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("version", ["new", "2.", ""])
def test_a_version_that_is_none_is_refused(version: str, tmp_path: Path) -> None:
    arguments = ["--bootstrap-servers", "127.0.0.1:9", "--topic", "t", "--api-version", version]
    assert "--api-version" in error("stream", *arguments, "--root", str(tmp_path))


@pytest.mark.parametrize("servers", ["foo:bar", "foo", "", "127.0.0.1:9,foo"])
def test_an_address_that_is_none_is_refused_by_name(servers: str) -> None:
    said = error("stream", "--bootstrap-servers", servers, "--topic", "t")
    assert said == f"bootstrap-servers: {servers.split(',')[-1]!r} is not HOST:PORT\n"


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--burst", "5"], ("burst", "rate")),
        (["--hold-back", "http://localhost:9/state"], ("hold-back", "bootstrap-servers")),
        (["--hold-back", "http://localhost:port/state"], ("hold-back", "is not an address")),
    ],
)
def test_flags_that_do_not_go_together_are_refused_by_their_names(
    more: list[str], named: tuple[str, str]
) -> None:
    said = error("stream", "--bootstrap-servers", "127.0.0.1:9", "--topic", "t", *more)
    assert all(name in said for name in named)
    assert said.count("\n") == 1


@pytest.mark.parametrize("torn", ["{torn", '{"sasl_plain_password": 7}', '["PLAINTEXT"]'])
def test_security_that_is_not_the_json_it_should_be_is_refused_by_name(
    torn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = ["stream", "--bootstrap-servers", "127.0.0.1:9", "--topic", "t"]
    by_flag = error(*stream, "--security", torn)
    monkeypatch.setenv("LETHE_STREAM__SECURITY", torn)
    by_variable = error(*stream)
    assert by_flag == by_variable
    assert by_flag.startswith("security (LETHE_STREAM__SECURITY) ")
    assert by_flag.count("\n") == 1


def test_a_secrets_missing_file_is_named() -> None:
    stream = ["stream", "--bootstrap-servers", "127.0.0.1:9", "--topic", "t"]
    said = error(*stream, "--security", '{"ssl_password": "@/nowhere/password"}')
    assert said.startswith(
        "security (LETHE_STREAM__SECURITY) ssl_password: /nowhere/password cannot be read: "
    )
    assert said.count("\n") == 1


@pytest.mark.needs("datasets")
@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_the_security_of_the_services_variable_reaches_the_broker(
    broker: StreamBroker, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.create_topic(topic, 1)
    (tmp_path / "protocol").write_text("PLAINTEXT\n")
    security = {"security_protocol": f"@{tmp_path / 'protocol'}", "ssl_check_hostname": "false"}
    monkeypatch.setenv("LETHE_STREAM__SECURITY", json.dumps(security))
    shown = run(*options(broker, topic), "--samples", "10").stdout
    assert "20 of 20" in shown
    refused = error(*options(broker, topic), "--security", '{"sasl_pasword": "obol"}')
    assert "sasl_pasword" in refused
    assert "obol" not in refused


@pytest.mark.needs("datasets")
@pytest.mark.parametrize("out", ["file", pytest.param("file/folder", marks=pytest.mark.long)])
def test_probes_that_cannot_be_written_are_one_line_naming_the_place(out: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = error("probes", "--out", str(tmp_path / out))
    assert said.startswith(f"{tmp_path / out}: ")
    assert said.count("\n") == 1


@pytest.mark.needs("datasets")
def test_a_folder_that_takes_no_probes_is_named() -> None:
    said = error("probes", "--out", "/proc/self/task")  # there, and not even root writes there
    assert said.startswith("--out /proc/self/task cannot be written to: ")
    assert said.count("\n") == 1


def test_a_root_that_is_a_file_is_one_line_naming_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = error("data", "--root", str(tmp_path / "file"))
    assert said.startswith(f"{tmp_path / 'file'}: ")
    assert said.count("\n") == 1


@pytest.mark.needs("datasets")
def test_probes_are_written_once_into_a_folder(tmp_path: Path) -> None:
    out = str(tmp_path / "probes")
    written = run("probes", "--scenario", "fashion-to-mnist", "--out", out).stdout.split()
    assert [Path(path).name for path in written] == ["00-fashion-mnist.safetensors", "01-mnist.safetensors"]
    assert [len(probe.y_N) for probe in load_folder(Path(out))] == [10_000, 10_000]
    assert "already contains probe files" in error("probes", "--out", out)


@pytest.mark.needs("datasets")
def test_data_shows_every_file_and_its_source() -> None:
    shown = run("data", "--root", str(default_root())).stdout
    assert shown.count("ok ") == 8


@pytest.mark.needs("datasets")
@pytest.mark.parametrize("broker", [pytest.param("embedded", marks=pytest.mark.long), "kafka"], indirect=True)
def test_an_interrupted_stream_is_resumed_without_a_gap_or_a_double(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 3)
    stream = [*options(broker, topic), "--samples", "500", "--scenario", "recurring"]
    with Publisher(Cluster(broker.bootstrap_servers, broker.api_version), topic) as publisher:
        first = subprocess.Popen(
            [*COMMAND, *stream, "--rate", "250"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 60
        while publisher.ends()[0] < 20:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        first.send_signal(signal.SIGINT)
        _, said = first.communicate(timeout=60)
        assert first.returncode == 130
        assert "Repeat the command with --resume to send them." in said
        sent = sum(publisher.ends())
        assert 20 <= sent < 2000  # the other partitions may be behind the first
        assert f"{2000 - sent:,} of 2,000 records were not sent" in said
        assert f"{2000 - sent:,} of {2000 - sent:,}" in run(*stream, "--resume").stdout
        ends = [Tail(667, b"recurring@500/0/1998"), Tail(667, b"recurring@500/0/1999")]
        assert publisher.tails("recurring@500/0") == [*ends, Tail(666, b"recurring@500/0/1997")]


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A scenario of a folder of pictures."""
    write_pictures(tmp_path / "pets", {"dog": (200, 30, 30), "cat": (30, 200, 30)}, 5)
    file = tmp_path / "pets.yaml"
    file.write_text("name: pets\nsegments: [{subject: pets, folder: pets}]\n")
    return file


def test_probes_of_pictures_are_written_with_the_flags_that_the_service_needs(pets: Path) -> None:
    done = run("probes", "--scenario", str(pets), "--out", str(pets.parent / "probes"))
    (path,) = done.stdout.split()
    assert load_probe(Path(path)).classes == ("cat", "dog")
    flags = "--sample-channels 3 --sample-height 24 --sample-width 32 --sample-classes 2"
    assert done.stderr.split("\n")[0] == f"lethe run --probes {pets.parent / 'probes'} {flags}"


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_labels_are_sent_as_names(broker: StreamBroker, topic: str, pets: Path) -> None:
    broker.create_topic(topic, 1)
    run(*options(broker, topic), "--scenario", str(pets), "--labels", "names")
    assert {headers["label"] for _, _, headers in received(broker, topic, 1)} <= {"dog", "cat"}


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_an_endless_stream_begins_again_until_ctrl_c(broker: StreamBroker, topic: str, pets: Path) -> None:
    broker.create_topic(topic, 1)
    stream = subprocess.Popen(
        [*COMMAND, *options(broker, topic), "--scenario", str(pets), "--loop", "--rate", "200"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with Publisher(Cluster(broker.bootstrap_servers, broker.api_version), topic) as publisher:
        until(lambda: publisher.ends()[0] > 30, "more records than the scenario has")
        stream.send_signal(signal.SIGINT)
        shown, said = stream.communicate(timeout=60)
        assert (stream.returncode, said) == (130, "")
        assert f" {publisher.ends()[0]:,} " in shown


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_a_scenarios_rate_holds_unless_another_is_given(broker: StreamBroker, topic: str, pets: Path) -> None:
    broker.create_topic(topic, 1)
    pets.write_text("rate: 4\n" + pets.read_text())

    def seconds(*more: str) -> float:
        shown = run(*options(broker, topic), "--scenario", str(pets), *more).stdout
        return float(re.search(r"seconds\s*\W\s*([\d.]+)", shown)[1])  # type: ignore[index]

    assert seconds() >= 7 / 4, "the eighth record is due after seven quarters of a second"
    assert seconds("--rate", "0.01", "--samples", "1") < 7 / 4


@pytest.mark.parametrize("broker", ["kafka"], indirect=True)
def test_a_topic_is_created_with_small_segments_and_only_once(broker: StreamBroker, topic: str) -> None:
    create = ["topic", "--bootstrap-servers", broker.bootstrap_servers, "--topic", topic, "--partitions", "3"]
    shown = run(*create, "--retention", "600").stdout
    assert "600000" in shown
    with KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers) as admin:
        (described,) = admin.describe_topics([topic])
        assert len(described["partitions"]) == 3
    assert error(*create) == f"topic {topic} exists already: its settings were left as they are\n"


def test_the_schema_is_one_json_document() -> None:
    assert json.loads(run("schema").stdout)["title"] == "Lethe scenario"


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
@pytest.mark.parametrize("broker", [pytest.param("embedded", marks=pytest.mark.long), "kafka"], indirect=True)
def test_a_stream_is_held_back_by_a_services_state(
    broker: StreamBroker, topic: str, slow_service: tuple[str, list[int]]
) -> None:
    broker.create_topic(topic, 1)
    url, answers = slow_service
    window = ["--hold-back", url, "--window", "80"]
    shown = run(*options(broker, topic), "--samples", "150", *window).stdout
    assert "300 of 300" in shown
    assert answers == [0, 60, 120, 180, 240]
