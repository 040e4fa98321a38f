"""A witness in Apache Kafka: a real service publishes its heads, and an audit compares them."""

import shutil
from pathlib import Path

import pytest

from deploy.kafka.kraft import KafkaNode
from lethe.errors import BrokerUnavailable
from lethe.privacy.audit.heads import parse_heads
from lethe.privacy.audit.ledger import read_entries
from lethe.stream.line_topic import LineTopic, read_lines
from lethe.stream.settings import StreamSettings
from tests.support.brokers import of_kafka
from tests.support.commands import Lethe
from tests.support.services import service
from tests.support.streams import LAYOUT, send, sent, settings_of
from tests.support.waiting import until

pytestmark = [pytest.mark.needs("kafka")]

POLICY = "name: ward\nretention: nothing\nresidency_seconds: 60\nheader_text: true\n"
FORGED = b"A\n2026-01-01 00:00:00,000 ERROR forged line"


def test_lines_are_added_and_read_and_a_topic_that_is_missing_is_created(
    kafka_node: KafkaNode, topic: str
) -> None:
    stream = StreamSettings(bootstrap_servers=kafka_node.bootstrap_servers)
    with pytest.raises(BrokerUnavailable):
        read_lines(stream, topic)
    heads = LineTopic(stream, topic)
    for number in range(3):
        heads.append(f"line {number}", "key")
    heads.close()
    assert read_lines(stream, topic) == ["line 0", "line 1", "line 2"]
    gone = LineTopic(StreamSettings(bootstrap_servers="127.0.0.1:9"), topic)
    with pytest.raises(BrokerUnavailable):
        gone.append("line", "key")
    gone.close()


def test_a_restored_older_state_folder_is_found_by_the_heads_in_the_topic(
    kafka_node: KafkaNode, topic: str, tmp_path: Path, lethe: Lethe
) -> None:
    broker, policy = of_kafka(kafka_node), tmp_path / "ward.yaml"
    policy.write_text(POLICY)
    broker.create_topic(topic, 1)
    records = sent(range(640))
    for i in range(320):
        partition, value, headers = records[i]
        kept = [header for header in headers if header[0] != "segment"]
        records[i] = partition, value, [*kept, ("segment", FORGED)]
    send(broker, topic, records)
    state, witness = tmp_path / "state", f"topic:{topic}-heads"
    settings = {
        "LEARNER__OPTIONS": '{"backbone": "mlp"}',
        "SAMPLE__HEIGHT": LAYOUT.height,
        "SAMPLE__WIDTH": LAYOUT.width,
        "CHECKPOINT__FOLDER": state,
        "CHECKPOINT__EVERY_SAMPLES": 64,
        "PRIVACY__POLICY": policy,
        "PRIVACY__WITNESS": witness,
    }
    for stop_after in (320, 640):
        with service(broker, topic, tmp_path, **settings, STREAM__STOP_AFTER=stop_after) as run:
            assert run.process.wait(90) == 0, run.log
        if stop_after == 320:
            shutil.copytree(state, tmp_path / "older")
            assert r"segment 1, A\x0a2026-01-01 00:00:00,000 ERROR forged line, starts" in run.log
            assert not any(line.startswith("2026-01-01") for line in run.log.splitlines())
    heads = list(parse_heads(read_lines(settings_of(broker, topic), witness.removeprefix("topic:"))))
    entries = list(read_entries(state / "ledger.jsonl"))
    assert {line.mark for line in heads} <= {entry.mark for entry in entries}
    assert heads[-1].mark == entries[-1].mark
    asked = ["--policy", str(policy), "--bootstrap-servers", broker.bootstrap_servers]
    found = lethe("audit", str(state / "ledger.jsonl"), *asked, "--witness", witness)
    assert found.code == 0, found.stdout
    older = str(tmp_path / "older" / "ledger.jsonl")
    assert lethe("audit", older, *asked).code == 0
    found = lethe("audit", older, *asked, "--witness", witness)
    assert found.code == 1
    assert "is different or missing" in found.stdout
    assert "name its cluster with --bootstrap-servers" in lethe.refuses("audit", older, "--witness", witness)


def test_an_unreachable_witness_is_a_warning_and_a_metric_and_learning_continues(
    kafka_node: KafkaNode, topic: str, tmp_path: Path
) -> None:
    broker = of_kafka(kafka_node)
    broker.create_topic(topic, 1)
    send(broker, topic, sent(range(320)))
    settings = {
        "LEARNER__OPTIONS": '{"backbone": "mlp"}',
        "SAMPLE__HEIGHT": LAYOUT.height,
        "SAMPLE__WIDTH": LAYOUT.width,
        "CHECKPOINT__FOLDER": tmp_path / "state",
        "CHECKPOINT__EVERY_SAMPLES": 64,
        "PRIVACY__WITNESS": tmp_path / "no folder" / "heads",
        "STREAM__STOP_AFTER": 320,
        "SERVE__KEEP": True,
    }
    with service(broker, topic, tmp_path, **settings) as run:
        until(lambda: "lethe_witness_up 0.0" in run.get("/metrics").text, "the metric says so")
        until(lambda: (run.report / "run.json").exists(), "all is learned")
        assert run.state["samples"]["learned"] == 320
        (tmp_path / "no folder").mkdir()
        until(
            lambda: "lethe_witness_up 1.0" in run.get("/metrics").text,
            "it is published later",
        )
        run.stop()
    assert run.process.poll() == 0
    assert run.log.count("the ledger's head was not published to the witness") == 1
    assert "No such file or directory" in run.log
    (*_, newest) = read_entries(tmp_path / "state" / "ledger.jsonl")
    (*_, last) = parse_heads((tmp_path / "no folder" / "heads").read_text().splitlines())
    assert last.mark == newest.mark
