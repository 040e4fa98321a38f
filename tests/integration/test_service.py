"""``lethe run``: every record is accounted for, and it stops when asked."""

import math
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from kafka import KafkaConsumer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from deploy.kafka.kraft import KafkaNode
from lethe.observability.peak_memory import peak_rss_bytes_of
from lethe.observability.result import RunResult
from lethe.wire import Layout
from lethe_producers.malformed import kinds_of
from lethe_producers.order import Order
from lethe_producers.scenario import Scenario, load_scenario
from tests.support.brokers import StreamBroker, of_kafka
from tests.support.faults.readers import alive
from tests.support.scenarios import send_all, write_probes
from tests.support.services import Service, service
from tests.support.waiting import until

pytestmark = [pytest.mark.needs("datasets")]

SCENARIO = load_scenario("mnist-to-fashion")
STOP_SECONDS = 5
"""Within so many, the service ends when it is asked to."""


FEEDER = "lethe_feeder_process_resident_memory_bytes"

NOBODY = StreamBroker("kafka", "127.0.0.1:9", None, lambda name, partitions: None)
"""An address at which no broker listens."""


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 300 images of each held-out set."""
    return write_probes(SCENARIO, tmp_path_factory.mktemp("probes"), 300)


@pytest.fixture(scope="module")
def large_probes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All held-out images: evaluating them takes a while."""
    return write_probes(SCENARIO, tmp_path_factory.mktemp("large-probes"), None)


def stream(broker: StreamBroker, topic: str, samples: int, scenario: Scenario = SCENARIO) -> None:
    """Send ``samples`` records of each segment to the topic's one partition."""
    send_all(broker, topic, Order(scenario, seed=0, samples=samples), 1)


def metrics(run: Service) -> Mapping[str, float]:
    """The metrics without labels, by name."""
    families = text_string_to_metric_families(run.get("/metrics").text)
    return {sample.name: sample.value for f in families for sample in f.samples if not sample.labels}


def test_a_stream_is_learned_evaluated_and_accounted_for(
    broker: StreamBroker, topic: str, probes: Path, tmp_path: Path
) -> None:
    settings = {"EVALUATION__PROBES": probes, "EVALUATION__EVERY": 320, "STREAM__STOP_AFTER": 1280}
    with service(broker, topic, tmp_path, **settings, SERVE__KEEP=True) as run:
        assert run.get("/livez").status_code == 200
        assert run.get("/readyz").status_code == 503, "there is no topic yet"
        until(
            lambda: 1 << 24 < metrics(run).get(FEEDER, 0) < 1 << 30,
            "the reader has its libraries and no more",
        )
        reader = metrics(run)[FEEDER]
        stream(broker, topic, 640)
        until(lambda: "serving until" in run.log or run.process.poll() is not None, "the run ends")
        assert run.process.poll() is None, run.log
        seen = metrics(run)
        assert FEEDER not in seen, "it has ended, and its number may be another's"
        assert seen["lethe_samples_learned_total"] == seen["lethe_samples_received_total"] == 1280
        assert seen["lethe_samples_lost_total"] == seen["lethe_samples_resident"] == 0
        assert seen["lethe_broker_up"] == 1
        assert run.get("/readyz").status_code == 200
        turned = "lethe_last_turn_timestamp_seconds"
        until(lambda: metrics(run)[turned] > seen[turned], "it is alive while it rests, and says so")
        state = run.state
        assert (state["segment"], state["visit"], state["positions"]) == ("fashion-mnist", 2, {"0": 1280})
        service_peak = peak_rss_bytes_of([run.process.pid])
        run.stop()
    assert run.process.poll() == 0
    result = RunResult.read(run.report / "run.json")
    assert result.peak_rss_bytes > service_peak + reader / 2
    assert result.samples.model_dump() == {
        "received": 1280,
        "learned": 1280,
        "unlabelled": 0,
        "discarded": 1280,
        "dead_lettered": 0,
        "lost": 0,
        "resident": 0,
        "kept": 0,
    }
    assert result.segments == result.probes == ["mnist", "fashion-mnist"]
    assert [switch.samples for switch in result.switches] == [0, 640]
    assert [len(row) for row in result.R] == [2, 2, 2]
    assert result.R[1][0] > 0.5 > result.R[0][0], "640 samples teach something"
    assert result.bwt is not None
    assert {320, 640, 960, 1280} <= {point.samples for point in result.evaluations}
    assert state["scores"]["bwt"] == result.bwt == seen["lethe_backward_transfer_ratio"]
    assert (run.report / "report.html").stat().st_size > 10_000


OF_THE_PROCESS = {
    "lethe_last_turn_timestamp_seconds",
    "lethe_last_checkpoint_timestamp_seconds",
    "lethe_start_duration_seconds",  # until the first batch that this process learns
    "lethe_checkpoint_size_bytes",  # a length or two of a number in it
    "lethe_last_evaluation_timestamp_seconds",  # until the first evaluation of this process
    "lethe_probe_evaluated_samples",  # as well
    "lethe_batch_loss",  # no checkpoint has it: undefined until this process learns a batch
    "lethe_gradient_norm",  # as well
    "lethe_gradient_interference_cosine",  # as well
    "lethe_weight_step_cosine",  # as well
}
"""Gauges that a restart may change."""


@pytest.mark.parametrize("with_probes", [True, False])
def test_a_finished_run_is_ready_after_a_restart_and_shows_the_same(
    with_probes: bool, broker: StreamBroker, topic: str, probes: Path, tmp_path: Path
) -> None:
    stream(broker, topic, 640)
    settings: dict[str, object] = {
        "STREAM__STOP_AFTER": 1152,
        "CHECKPOINT__FOLDER": tmp_path / "state",
        "SERVE__KEEP": True,
    }
    settings |= {"EVALUATION__PROBES": probes, "EVALUATION__EVERY": 640} if with_probes else {}
    shown, states = [], []
    for start in ("first", "second"):
        folder = tmp_path / start
        folder.mkdir()
        with service(broker, topic, folder, **settings) as run:
            wait_until_it_rests(run)
            shown.append(gauges(run))
            states.append(run.state)
            run.stop()
    assert shown[0] == shown[1]
    assert shown[1]["lethe_broker_up"] == 1
    assert "lethe_prequential_accuracy_ratio kind=fading" in shown[1]
    for name in ("broker", "ready", "positions", "lag", "segment", "samples", "scores", "judged"):
        assert states[0][name] == states[1][name], name


def wait_until_it_rests(run: Service) -> None:
    until(lambda: "serving until" in run.log, "the run ends")
    until(lambda: run.get("/readyz").status_code == 200, "it is ready")
    until(lambda: run.state["lag"] == {"0": 128}, "it knows what is left")


def gauges(run: Service) -> Mapping[str, float]:
    """Every gauge of the run, by name and labels."""
    families = text_string_to_metric_families(run.get("/metrics").text)
    return {
        " ".join([sample.name, *(f"{k}={v}" for k, v in sample.labels.items() if k != "partition")]): round(
            sample.value, 3
        )
        for family in families
        if family.type == "gauge" and family.name.startswith("lethe_") and family.name not in OF_THE_PROCESS
        if not family.name.endswith("_created")
        for sample in family.samples
        if not math.isnan(sample.value)
    }


@pytest.mark.needs("kafka")
def test_a_finished_run_notices_an_outage_of_the_broker_and_its_end(
    kafka_node: KafkaNode, topic: str, tmp_path: Path
) -> None:
    broker = of_kafka(kafka_node)
    stream(broker, topic, 64)
    with service(broker, topic, tmp_path, STREAM__STOP_AFTER=128, SERVE__KEEP=True) as run:
        until(lambda: "serving until" in run.log, "the run ends")
        until(lambda: run.get("/readyz").status_code == 200, "it is ready")
        try:
            kafka_node.stop()
            until(lambda: run.get("/readyz").status_code == 503, "it notices")
            assert "does not answer" in run.state["broker"]["detail"]
        finally:
            kafka_node.start()
        until(lambda: run.get("/readyz").status_code == 200, "it notices, too")
        run.stop()


@pytest.mark.parametrize(("host", "locked"), [("0.0.0.0", False), ("0.0.0.0", True), ("127.0.0.1", False)])
def test_a_port_that_others_reach_without_a_token_is_warned_of(
    host: str, locked: bool, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("a-token-that-nobody-guesses")
    token = {"SERVE__TOKEN_FILE": tmp_path / "token"} if locked else {}
    settings = {"SERVE__HOST": host, "SERVE__HOSTS": "lethe.example", "RUN__REPORT": tmp_path / "report"}
    with service(NOBODY, "images", tmp_path, **settings, **token) as run:
        port = run.address.rpartition(":")[2]
        assert ("serve.token_file is not set" in run.log) == (host == "0.0.0.0" and not locked)
        local = f"http://127.0.0.1:{port}/livez"
        for name, status in (("lethe.example", 200), ("evil.example", 421)):
            assert httpx.get(local, headers={"host": name}, timeout=30).status_code == status


def test_malformed_records_are_dead_lettered_by_reason_and_learning_continues(
    broker: StreamBroker, topic: str, tmp_path: Path
) -> None:
    stream(broker, topic, 600, load_scenario("poisoned"))
    with service(broker, topic, tmp_path, STREAM__STOP_AFTER=1200) as run:
        assert run.process.wait(90) == 0, run.log
    result = RunResult.read(run.report / "run.json")
    counts = result.samples
    assert (counts.received, counts.lost, counts.resident) == (1200, 0, 0)
    assert counts.learned + counts.dead_lettered == 1200
    assert counts.dead_lettered == 24 == sum(result.dead_letters.values())
    assert set(result.dead_letters) == set(kinds_of(Layout()))
    assert letters(broker, f"{topic}.dead-letters") == result.dead_letters


def letters(broker: StreamBroker, topic: str) -> dict[str, int]:
    """Count a topic's dead letters by reason."""
    found: dict[str, int] = {}
    consumer = KafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers,
        api_version=broker.api_version,
        auto_offset_reset="earliest",
    )
    try:
        partitions = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            for records in consumer.poll(timeout_ms=1000).values():
                for record in records:
                    reason = dict(record.headers)["lethe-reason"].decode()
                    found[reason] = found.get(reason, 0) + 1
    finally:
        consumer.close()
    return found


@pytest.mark.alone
def test_asked_to_stop_while_streaming_it_stops_and_reports_its_progress(
    broker: StreamBroker, topic: str, tmp_path: Path
) -> None:
    stream(broker, topic, 2000)
    with service(broker, topic, tmp_path, LEARNER__THREADS=1) as run:
        until(lambda: run.state["samples"]["learned"] > 0, "something is learned")
        assert run.stop() < STOP_SECONDS
    assert run.process.poll() == 0, run.log
    counts = RunResult.read(run.report / "run.json").samples
    assert counts.received == counts.learned == counts.discarded > 0
    assert counts.learned % 64 == 0


@pytest.mark.alone
def test_asked_to_stop_during_a_full_evaluation_it_stops_at_once(
    broker: StreamBroker, topic: str, large_probes: Path, tmp_path: Path
) -> None:
    with service(broker, topic, tmp_path, EVALUATION__PROBES=large_probes, LEARNER__THREADS=1) as run:
        assert run.get("/livez").status_code == 200
        assert run.stop(signal.SIGINT) < STOP_SECONDS
    assert run.process.poll() == 0, run.log
    assert "after 0 samples" not in run.log, "the evaluation was over before: the test tests nothing"
    assert RunResult.read(run.report / "run.json").evaluations == []


def test_a_service_that_is_killed_leaves_no_process_and_no_open_port(
    broker: StreamBroker, topic: str, tmp_path: Path
) -> None:
    with service(broker, topic, tmp_path) as run:
        address = run.address
        until(lambda: len(readers(run.process.pid)) == 1, "the reader process starts")
        started = [*children(run.process.pid), *readers(run.process.pid)]
        run.stop(signal.SIGKILL)
        until(lambda: not any(map(alive, started)), "the reader process goes, too, and what started it")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{address}/livez")


def test_a_supervisor_may_signal_every_process_of_a_service(
    broker: StreamBroker, topic: str, tmp_path: Path
) -> None:
    with service(broker, topic, tmp_path) as run:
        until(lambda: len(readers(run.process.pid)) == 1, "the reader process starts")
        started = [*children(run.process.pid), *readers(run.process.pid)]
        for pid in started:
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
        time.sleep(1)
        assert all(map(alive, started)), "the service decides when they end"
        run.stop()
    assert run.process.poll() == 0, run.log
    until(lambda: not any(map(alive, started)), "they have ended with the service")


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def readers(pid: int) -> list[int]:
    """The processes that read for a service: a server forks them, which is the service's child."""
    return [reader for child in children(pid) for reader in children(child)]


def test_without_a_broker_it_waits_and_is_alive_and_not_ready(topic: str, tmp_path: Path) -> None:
    with service(NOBODY, topic, tmp_path) as run:
        until(lambda: "waiting for the broker" in run.log, "the log reports the outage")
        assert run.get("/livez").status_code == 200
        assert run.get("/readyz").status_code == 503
        assert "127.0.0.1:9" in run.state["broker"]["detail"]
        run.stop()
    assert run.process.poll() == 0, run.log
