"""Late labels through Apache Kafka: every sample gets its own, also across kills, and is learned once."""

import os
import random
import re
import signal
from pathlib import Path
from typing import Any, Final

import pytest
from kafka import KafkaAdminClient

from deploy.kafka.kraft import KafkaNode
from lethe.checkpointing.checkpoint import read_checkpoint
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.errors import InvalidSetting
from lethe.experiments.chaos.outcome import Outcome
from lethe.learners.registry import LEARNERS
from lethe.privacy.controls import load_controls
from lethe.privacy.policy import load_policy
from lethe.privacy.verify_sums import verify_topic
from lethe.settings import PrivacySettings, Settings
from lethe.wire import PNG
from tests.support.faults.checkpoint_steps import KillAt
from tests.support.faults.late_labels import LateLabels, joined_in
from tests.support.faults.policies import held_to
from tests.support.faults.readers import reading, spawning
from tests.support.faults.services import FAILED, Stage, running
from tests.support.faults.topics import Fill, records
from tests.support.ledgers import passed_audit
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")

COUNT: Final = 800
MISSING: Final = list(range(0, COUNT, 2))
"""The records without a label."""


@pytest.fixture
def late(fill: Fill, kafka_node: KafkaNode, topic: str) -> LateLabels:
    return LateLabels(kafka_node, fill, topic, records("a", COUNT, 5), MISSING)


def settings(late: LateLabels, folder: Path, learner: str = "finetune", **more: Any) -> Settings:
    labels = {"topic": late.topic, "wait": 3600} | more.pop("labels", {})
    return late.stage.settings(learner, folder, **{"privacy": {"policy": "lab"}, **more}, labels=labels)


@pytest.fixture(scope="module")
def complete(fill: Fill, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The outcome where every record has its label from the start."""
    folder = tmp_path_factory.mktemp("complete") / "state"
    stage = fill("with-all-labels", records("a", COUNT, 5))
    with running(stage.settings("finetune", folder, privacy={"policy": "lab"})) as service:
        assert service.status() == 0, service.log
    return Outcome.of(folder)


def test_they_are_joined_and_a_killed_run_ends_with_the_bits_of_one_that_had_all_labels(
    late: LateLabels, complete: Outcome, tmp_path: Path
) -> None:
    late.create_topic(2)
    missing = MISSING.copy()
    random.Random(3).shuffle(missing)
    state = tmp_path / "late" / "state"
    given = settings(late, state)
    with running(given, KillAt("renamed", left=3)) as service:
        late.send(missing[:50])
        late.send_without_key(5)
        late.send(missing[50:100])
        until(lambda: " at http://" in service.log, "the service waits for the others")
        assert f"records without a label wait up to 3600 s for one from {late.topic}" in service.log
        late.send(missing[100:])
        assert service.status() == -signal.SIGKILL
    with running(given) as service:
        assert service.status() == 0
    found = Outcome.of(state)
    assert (found.learned, found.dead, found.learner) == (COUNT, 0, complete.learner)
    last = read_checkpoint(checkpoint_files(state)[-1])
    assert last.position.labels.keys() == {0, 1}
    counts = {"labels_joined": len(MISSING), "labels_dropped": {"no_key": 5}}
    assert isinstance(last.counts, dict)
    assert counts.items() <= last.counts.items()
    assert joined_in(state) == len(MISSING)
    passed_audit(state, load_policy("lab"))


@pytest.mark.long
def test_with_several_readers_too_whichever_of_their_processes_is_killed_while_records_wait(
    fill: Fill, complete: Outcome, topic: str, kafka_node: KafkaNode, tmp_path: Path
) -> None:
    late = LateLabels(kafka_node, fill, topic, records("a", COUNT, 5, PNG), MISSING)
    late.create_topic(2)
    state, sent = tmp_path / "state", 0
    for readers, victim, label_of in ((2, "decoder", 150), (3, "reader", 300)):
        given = settings(late, state, batch={"readers": readers})
        late.send(MISSING[sent:label_of])
        sent = label_of
        with running(given, start=spawning) as service:
            service.has_learned(2 * sent // 64 * 64)
            *decoders, reader = reading(service.pid)
            os.kill(reader if victim == "reader" else decoders[-1], signal.SIGKILL)
            assert service.status() == FAILED
            assert f"{victim} process ended with status -9" in service.log
    given = settings(late, state, batch={"readers": 2})
    with running(given) as service:
        late.send(MISSING[sent:][::-1])
        assert service.status() == 0, service.log
    found = Outcome.of(state)
    assert (found.learned, found.dead, found.learner) == (COUNT, 0, complete.learner)
    assert joined_in(state) == len(MISSING)


def test_a_label_that_never_comes_leaves_its_record_unlabelled(late: LateLabels, tmp_path: Path) -> None:
    late.create_topic(1)
    late.send(MISSING[: len(MISSING) // 2])
    labels = {"wait": 3.0, "unlabelled": "predict"}
    given = settings(late, tmp_path / "state", labels=labels, serve={"keep": True})
    with running(given) as service:
        until(lambda: service.count("unlabelled") == COUNT // 4, "the others are predicted")
        until(lambda: service.learned() == COUNT * 3 // 4, "those with a label are learned")
        until(lambda: service.metric("lethe_labels_joined_total") == COUNT // 4, "the labels are counted")
        service.send(signal.SIGTERM)
        assert service.status() == 0


def test_under_a_bound_of_residency_records_that_wait_are_read_again_and_lost_ones_do_not_block(
    late: LateLabels, tmp_path: Path
) -> None:
    late.create_topic(2)
    held = held_to(tmp_path, residency_seconds=20, purge=None)
    given = settings(late, tmp_path / "state", "ridge", labels={"wait": 2.0}, **held)
    late.send([number for number in MISSING if number != 400])
    with running(given) as service:
        assert service.status() == 0
    state = tmp_path / "state"
    found = Outcome.of(state)
    assert found.learned + found.dead == COUNT
    assert found.dead >= 1
    passed_audit(state, load_policy(held["privacy"]["policy"]))


@pytest.mark.long
def test_labels_in_a_partition_that_is_added_later_are_read(
    late: LateLabels, kafka_node: KafkaNode, tmp_path: Path
) -> None:
    late.create_topic(1)
    given = settings(late, tmp_path / "state", stream={"growth_seconds": 1.0})
    with running(given) as service:
        late.send(MISSING[:50])
        until(lambda: " at http://" in service.log, "the service waits for the others")
        with KafkaAdminClient(bootstrap_servers=kafka_node.bootstrap_servers) as admin:
            admin.create_partitions({late.topic: 4})
        late.send(MISSING[50:])
        assert service.status() == 0
    assert (Outcome.of(tmp_path / "state").learned, joined_in(tmp_path / "state")) == (COUNT, len(MISSING))


def test_sums_with_late_labels_are_not_compared_with_the_topic_alone(
    fill: Fill, topic: str, kafka_node: KafkaNode, tmp_path: Path
) -> None:
    late = LateLabels(kafka_node, fill, topic, records("a", 128, 5), MISSING)
    late.create_topic(1)
    late.send(MISSING[:64])
    given = settings(late, tmp_path / "state", "ridge")
    with running(given) as service:
        assert service.status() == 0
    with pytest.raises(InvalidSetting, match=rf"labels came from topic {re.escape(late.topic)}"):
        verify_topic(tmp_path / "state", given.stream)


def test_a_policy_whose_residency_is_shorter_refuses_to_wait(stage: Stage, tmp_path: Path) -> None:
    given = stage.settings("ridge", tmp_path / "state", labels={"topic": "late", "wait": 2.5})
    with pytest.raises(InvalidSetting, match=r"labels.wait 2.5: .* policy clinic"):
        load_controls(PrivacySettings(policy="clinic")).apply(given, LEARNERS["ridge"], [])
    shorter = stage.settings("ridge", tmp_path / "state", labels={"topic": "late", "wait": 2.0})
    load_controls(PrivacySettings(policy="clinic")).apply(shorter, LEARNERS["ridge"], [])
