"""Several ranks join late labels, each those of its own partitions, also when killed and dealt anew."""

import signal
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest
from kafka import KafkaProducer

from deploy.kafka.kraft import KafkaNode
from lethe.checkpointing.checkpoint import read_position
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.errors import RankLost
from lethe.experiments.chaos.outcome import Outcome
from lethe.privacy.audit.ledger import read_entries
from lethe.privacy.audit.receipt_writer import LEDGER
from lethe.settings import Settings
from tests.support.brokers import of_kafka
from tests.support.checkpoints import newest
from tests.support.faults.ranks import has_learned, sums, team
from tests.support.faults.services import FAILED, Stage, running
from tests.support.faults.topics import Fill, Outgoing, records
from tests.support.ledgers import passed_audit
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")

PARTITIONS: Final = 6
COUNT: Final = 960
WHOLE: Final = records("a", COUNT, 4)
MISSING: Final = [number for number in range(COUNT) if number // PARTITIONS % 2]
"""The records without a label: half of every partition."""
FIRST: Final = [number for number in MISSING if number < COUNT // 2]


def without_labels() -> list[Outgoing]:
    missing = set(MISSING)
    return [
        (value, [header for header in headers if header[0] != "label" or number not in missing])
        for number, (value, headers) in enumerate(WHOLE)
    ]


def send_labels(kafka_node: KafkaNode, topic: str, numbers: list[int], shift: int = 0) -> None:
    """Send labels to the partitions of their samples, or to others."""
    with KafkaProducer(bootstrap_servers=kafka_node.bootstrap_servers) as producer:
        sent = [
            producer.send(
                topic,
                key=b"%d" % number,
                value=dict(WHOLE[number][1])["label"],
                partition=(number + shift) % PARTITIONS,
            )
            for number in numbers
        ]
        for future in sent:
            future.get(timeout=60)


def settings(stage: Stage, folder: Path, topic: str) -> Settings:
    labels: dict[str, Any] = {"labels": {"topic": topic, "wait": 3600}} if topic else {}
    return stage.settings("ridge", folder, batch={"size": 32}, **labels)


@pytest.fixture(scope="module")
def complete(fill: Fill, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The SHA-256 of the sums of one service where every record has its label from the start."""
    folder = tmp_path_factory.mktemp("complete") / "state"
    with running(settings(fill("ranks-with-all-labels", WHOLE, PARTITIONS), folder, "")) as service:
        assert service.status() == 0, service.log
    return sums(folder)


def check(state: Path, complete: str) -> None:
    found, last = Outcome.of(state), newest(state)
    assert (found.learned, found.dead, found.passed) == (COUNT, 0, COUNT)
    assert sums(state) == complete
    assert isinstance(last.counts, dict)
    assert (last.counts["labels_joined"], last.counts["labels_dropped"]) == (len(MISSING), {})
    assert last.position.labels.keys() == set(range(PARTITIONS))
    receipts = [entry.receipt for entry in read_entries(state / LEDGER)]
    assert sum(receipt.joined for receipt in receipts) == len(MISSING)
    passed_audit(state)


def test_a_rank_that_is_killed_meanwhile_loses_no_label(
    fill: Fill, complete: str, topic: str, kafka_node: KafkaNode, tmp_path: Path
) -> None:
    stage, late, state = fill(topic, without_labels(), PARTITIONS), f"{topic}.labels", tmp_path / "state"
    of_kafka(kafka_node).create_topic(late, PARTITIONS)
    given = settings(stage, state, late)
    send_labels(kafka_node, late, FIRST[::-1])
    with team(given, 2, tmp_path / "killed") as started:
        has_learned(started, state, 256)
        started.send(1, signal.SIGKILL)
        assert started.statuses() == [RankLost.status, -signal.SIGKILL]
    with team(given, 2, tmp_path / "last") as started:
        send_labels(kafka_node, late, MISSING[len(FIRST) :])
        assert started.statuses() == [0, 0], started.log
    check(state, complete)


@pytest.mark.long
def test_a_run_that_begins_at_the_end_of_the_topic_takes_labels_from_then_on(
    fill: Fill, topic: str, kafka_node: KafkaNode, tmp_path: Path
) -> None:
    stage, late, state = fill(topic, without_labels(), PARTITIONS), f"{topic}.labels", tmp_path / "state"
    of_kafka(kafka_node).create_topic(late, PARTITIONS)
    send_labels(kafka_node, late, FIRST)
    more = {"stream": {"start": "latest"}, "labels": {"topic": late, "wait": 3600}}
    with team(stage.settings("ridge", state, **more), 2, tmp_path / "logs"):
        until(lambda: checkpoint_files(state), "the beginning is saved")
        begin = read_position(checkpoint_files(state)[0])
    sent = Counter(number % PARTITIONS for number in FIRST)
    assert begin.labels == {partition: sent[partition] for partition in range(PARTITIONS)}


@pytest.mark.long
def test_other_numbers_of_ranks_continue(
    fill: Fill, complete: str, topic: str, kafka_node: KafkaNode, tmp_path: Path
) -> None:
    stage, late, state = fill(topic, without_labels(), PARTITIONS), f"{topic}.labels", tmp_path / "state"
    of_kafka(kafka_node).create_topic(late, PARTITIONS)
    given = settings(stage, state, late)
    send_labels(kafka_node, late, FIRST[::-1])
    with running(given) as service:
        service.has_learned(128)
        service.send(signal.SIGTERM)
        assert service.status() == 0
    for ranks, number, samples in ((2, signal.SIGTERM, 256), (3, signal.SIGKILL, 384)):
        with team(given, ranks, tmp_path / f"{ranks}") as started:
            has_learned(started, state, samples)
            started.send(ranks - 1, number)
            assert any(started.statuses()) == (number == signal.SIGKILL)
    send_labels(kafka_node, late, MISSING[len(FIRST) :])
    with team(given, 4, tmp_path / "4") as started:
        assert started.statuses() == [0] * 4, started.log
    check(state, complete)


@pytest.mark.long
@pytest.mark.parametrize(
    ("partitions", "shift", "why"),
    [(PARTITIONS, 2, "has its label in partition"), (4, 0, "its partitions [0, 2] are read with those of")],
)
def test_labels_elsewhere_are_refused(
    partitions: int, shift: int, why: str, fill: Fill, topic: str, kafka_node: KafkaNode, tmp_path: Path
) -> None:
    stage, late = fill(topic, without_labels(), PARTITIONS), f"{topic}.labels"
    of_kafka(kafka_node).create_topic(late, partitions)
    if partitions == PARTITIONS:
        send_labels(kafka_node, late, MISSING, shift)
    with team(settings(stage, tmp_path / "state", late), 2, tmp_path / "logs") as started:
        assert FAILED in started.statuses()
        assert why in started.log
