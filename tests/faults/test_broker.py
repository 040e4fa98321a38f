"""A broker that is absent, killed, without a dead-letter topic or without old records."""

import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from deploy.kafka.kraft import KafkaNode
from lethe.checkpointing.checkpoint import read_checkpoint
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.experiments.chaos.outcome import Outcome
from lethe.learners.registry import LEARNERS
from lethe.stream.connection import Cluster
from lethe_producers.publisher import Publisher
from lethe_producers.records import Record
from tests.support.faults.checkpoint_steps import HELD_AT, Held, KillAt
from tests.support.faults.clocks import Clock
from tests.support.faults.learners import EVERY_LEARNER, IN_GROUPS
from tests.support.faults.services import EVERY, FAILED, Forked, Stage, all_running, running
from tests.support.faults.topics import PARTITIONS, Fill, Outgoing, records
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")


@pytest.mark.parametrize("learners", IN_GROUPS)
def test_a_broker_that_is_killed_midway_and_restarted(
    learners: Sequence[str], fill: Fill, topic: str, kafka_node: KafkaNode, tmp_path: Path
) -> None:
    first, rest = records("a", 800, 1), records("b", 800, 2)
    stage = replace(fill(topic, first), total=len(first) + len(rest))
    with all_running(stage, tmp_path, learners=learners) as services:
        for service in services.values():
            service.has_learned(200)
        kafka_node.kill()
        try:
            for learner, service in services.items():
                until(lambda log=service: "waiting for the broker" in log.log, f"{learner} misses it")
                assert not service.ended(), learner  # it cannot have: half of its records are not there yet
        finally:
            kafka_node.start()
        fill(topic, rest)
        found = outcomes(services, tmp_path)
    assert found == all_alone(stage, tmp_path / "alone", learners=learners)


def outcomes(services: dict[str, Forked], folder: Path) -> dict[str, Outcome]:
    """Wait until all have ended, and return each outcome."""
    for learner, service in services.items():
        assert service.status() == 0, learner
    return {learner: Outcome.of(folder / learner / "state") for learner in services}


def all_alone(stage: Stage, folder: Path, **more: Any) -> dict[str, Outcome]:
    """Return the outcome of each learner's undisturbed run over the stage."""
    with all_running(stage, folder, **more) as services:
        return outcomes(services, folder)


@pytest.mark.long
def test_a_broker_that_is_absent_at_the_start(
    stage: Stage, untouched: Callable[[str], Outcome], kafka_node: KafkaNode, tmp_path: Path
) -> None:
    kafka_node.stop()
    try:
        with all_running(stage, tmp_path) as services:
            for service in services.values():
                until(lambda log=service: "waiting for the broker" in log.log, "it says what it waits for")
            kafka_node.start()
            found = outcomes(services, tmp_path)
    finally:
        kafka_node.start()
    assert found == {learner: untouched(learner) for learner in LEARNERS}


@pytest.mark.parametrize("learner", EVERY_LEARNER)
def test_a_clock_that_jumps_an_hour_and_back_in_both_processes(
    learner: str, stage: Stage, untouched: Callable[[str], Outcome], tmp_path: Path
) -> None:
    clock = Clock(tmp_path / "ahead")
    with running(stage.settings(learner, tmp_path / "state"), clock, clock.start) as service:
        assert service.status() == 0
    noticed = (tmp_path / "clocks").read_text().splitlines()  # the reader only if it asks for the time
    assert [line for line in noticed if "service" in line] == ["service ahead", "service back"]
    assert Outcome.of(tmp_path / "state") == untouched(learner)


def poisoned(count: int, bad: int) -> list[Outgoing]:
    good = records("a", count, 3)
    return [*good[: count // 2], *[(b"garbage", good[0][1])] * bad, *good[count // 2 :]]


@pytest.mark.parametrize("learners", IN_GROUPS)
def test_a_dead_letter_topic_that_rejects_writes_stops_the_service_without_loss(
    learners: Sequence[str], fill: Fill, topic: str, kafka_node: KafkaNode, tmp_path: Path
) -> None:
    stage = fill(topic, poisoned(800, 5))
    letters = f"{topic}.dead-letters"
    with KafkaAdminClient(bootstrap_servers=kafka_node.bootstrap_servers) as admin:
        small = {"max.message.bytes": "100"}  # less than a report with its headers
        admin.create_topics({letters: {"num_partitions": 1, "replication_factor": 1, "configs": small}})
        with all_running(stage, tmp_path, learners=learners) as services:
            for learner, service in services.items():
                assert service.status() == FAILED, learner
                assert letters in service.log
                kept = checkpoint_files(tmp_path / learner / "state")
                assert kept, learner
                for path in kept:
                    assert sum(read_checkpoint(path).position.offsets.values()) <= 400
        admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, letters, {"max.message.bytes": "100000"})]
        )
    with all_running(stage, tmp_path, learners=learners) as services:
        found = outcomes(services, tmp_path)
    assert all(outcome.dead == 5 for outcome in found.values())
    apart = {"dead_letter_topic": f"{topic}.alone"}
    assert found == all_alone(stage, tmp_path / "alone", learners=learners, stream=apart)


def stopped_midway(stage: Stage, state: Path) -> int:
    """Stop at the third checkpoint or a few samples later; return how many were learned."""
    go_on = state.parent / "go-on"
    with running(stage.settings("finetune", state), Held(go_on)) as service:
        service.has_learned(HELD_AT)
        service.send(signal.SIGTERM)
        go_on.touch()
        assert service.status() == 0
    return Outcome.of(state).learned


def test_lost_records_stop_the_service_until_the_loss_is_accepted(
    fill: Fill, topic: str, kafka_node: KafkaNode, tmp_path: Path
) -> None:
    stage = fill(topic, records("a", 2000, 7))
    learned = stopped_midway(stage, tmp_path / "state")
    assert learned < 1400
    with KafkaAdminClient(bootstrap_servers=kafka_node.bootstrap_servers) as admin:
        admin.delete_records({TopicPartition(topic, p): 800 for p in (0, 1)})
    with running(stage.settings("finetune", tmp_path / "state")) as service:
        assert service.status() == FAILED
        begin = learned // 2
        assert f"{2 * (800 - begin)} samples are gone" in service.log
        assert f"offsets {begin} to 799 of partition 0, {begin} to 799 of partition 1" in service.log
        assert "--accept-loss" in service.log
    accepting = stage.settings("finetune", tmp_path / "state", stream={"accept_loss": True})
    with running(accepting) as service:
        assert service.status() == 0
        assert "records lost" in service.log
    found = Outcome.of(tmp_path / "state")
    assert found.learned == learned + 400
    assert found.lost(stage.total) == 1600 - learned


def add_partition(stage: Stage) -> None:
    with KafkaAdminClient(bootstrap_servers=stage.bootstrap_servers) as admin:
        admin.create_partitions({stage.topic: PARTITIONS + 1})


def send_to_all(stage: Stage, outgoing: list[Outgoing]) -> None:
    """Send more records to the partitions in turn, the added one among them."""
    with Publisher(Cluster(stage.bootstrap_servers), stage.topic, PARTITIONS + 1) as publisher:
        for i, (value, headers) in enumerate(outgoing):
            publisher.send(Record(i, b"%d" % i, value, list(headers)), i % (PARTITIONS + 1))
        publisher.flush()


def test_a_partition_that_is_added_joins_at_a_record_that_no_kill_changes(
    fill: Fill, topic: str, tmp_path: Path
) -> None:
    before, after = records("a", 3 * EVERY, 10), records("a", 3 * EVERY, 11)
    stage = replace(fill(topic, before), total=len(before) + len(after))
    runs = [tmp_path / name / "state" for name in ("once", "often")]
    for state in runs:
        with running(stage.settings("finetune", state)) as service:
            service.has_learned(len(before))
            until(lambda log=service: log.metric("lethe_checkpoints_written_total") >= 4, "all is kept")
            service.kill()
    add_partition(stage)
    send_to_all(stage, after)
    latest = {"start": "latest"}  # for the start of a run, not for a partition that is added
    for step, warned in (("committed", True), ("taken", False)):
        settings = stage.settings("finetune", runs[1], stream=latest)
        with running(settings, KillAt(step, left=1)) as service:
            assert service.status() == -signal.SIGKILL
            assert (f"from their beginning: {PARTITIONS}" in service.log) == warned
    assert Outcome.of(runs[1]).learned == len(before)
    for state in runs:
        with running(stage.settings("finetune", state, stream=latest)) as service:
            assert service.status() == 0
    once, often = map(Outcome.of, runs)
    assert once.learned == stage.total
    assert once == often


def test_a_partition_that_is_added_meanwhile_is_read_soon(fill: Fill, topic: str, tmp_path: Path) -> None:
    stage = replace(fill(topic, records("a", EVERY, 10)), total=2 * EVERY)
    with running(stage.settings("finetune", tmp_path / "state", stream={"growth_seconds": 0.5})) as service:
        service.has_learned(EVERY)
        add_partition(stage)
        until(lambda: f"from their beginning: {PARTITIONS}" in service.log, "it is noticed")
        send_to_all(stage, records("a", EVERY, 11))
        assert service.status() == 0
    assert Outcome.of(tmp_path / "state").learned == stage.total


def test_a_recreated_topic_stops_the_service_until_the_loss_is_accepted(
    fill: Fill, topic: str, kafka_node: KafkaNode, tmp_path: Path
) -> None:
    stage = fill(topic, records("a", 2000, 8))
    learned = stopped_midway(stage, tmp_path / "state")
    with KafkaAdminClient(bootstrap_servers=kafka_node.bootstrap_servers) as admin:
        admin.delete_topics([topic])
        until(lambda: topic not in admin.list_topics(), "the topic is gone")
    fill(topic, records("a", 2000, 9))
    with running(stage.settings("finetune", tmp_path / "state")) as service:
        assert service.status() == FAILED
        assert "deleted and created anew" in service.log
        assert f"at least {stage.total - learned} samples" in service.log
        assert "--accept-loss" in service.log
    accepting = stage.settings("finetune", tmp_path / "state", stream={"accept_loss": True})
    warned = []
    for _ in range(2):  # the second one goes on from the new topic's checkpoints
        with running(accepting) as service:
            assert service.status() == 0
            warned.append(f"at least {stage.total - learned} samples" in service.log)
    assert warned == [True, False]
    assert Outcome.of(tmp_path / "state").learned == stage.total
    assert learned < stage.total
