"""The purge on Apache Kafka: records that a restart needs are never deleted, all others are."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from deploy.kafka.kraft import KafkaNode
from lethe.checkpointing.checkpoint import read_checkpoint
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.experiments.chaos.outcome import Outcome
from lethe.privacy.audit.ledger import read_entries
from lethe.privacy.audit.verify import audit
from lethe.privacy.policy import load_policy
from lethe.runtime.resume import resumed
from tests.support.faults.checkpoint_steps import KillAt
from tests.support.faults.policies import held_to
from tests.support.faults.services import EVERY, FAILED, Stage, running
from tests.support.faults.topics import Fill, records, starts
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")

SAMPLES = 1200


@pytest.fixture
def purged_stage(fill: Fill, topic: str) -> Stage:
    return fill(topic, records("a", SAMPLES, 1))


def gone(stage: Stage) -> bool:
    return sum(starts(stage).values()) == stage.total


@pytest.mark.parametrize("step", ["renamed", "committed"])
def test_a_crash_between_checkpoint_and_purge_loses_nothing(
    step: str,
    purged_stage: Stage,
    run_alone: Callable[..., Outcome],
    kafka_node: KafkaNode,
    tmp_path: Path,
) -> None:
    stage = purged_stage
    wanted = run_alone(stage, "finetune", tmp_path / "alone" / "state")
    forget_group(kafka_node, "alone")
    settings = stage.settings("finetune", tmp_path / "kept" / "state", **held_to(tmp_path / "kept"))
    with running(settings, KillAt(step)) as service:
        assert service.status() == -signal.SIGKILL
    assert sum(starts(stage).values()) <= 3 * EVERY  # what the third checkpoint covers, and no more
    with running(settings) as service:
        assert service.status() == 0
    assert Outcome.of(tmp_path / "kept" / "state") == wanted
    assert gone(stage)
    ledger = tmp_path / "kept" / "state" / "ledger.jsonl"
    verdict = audit(
        read_entries(ledger), load_policy(str(tmp_path / "kept" / "policy.yaml")), starts=starts(stage)
    )
    assert verdict.passed, verdict
    assert [entry.receipt.kind for entry in read_entries(ledger)].count("purge") >= 1


def forget_group(node: KafkaNode, group: str) -> None:
    """Delete the group of a service that will not return, as an operator would."""
    with KafkaAdminClient(bootstrap_servers=node.bootstrap_servers) as admin:
        admin.delete_groups([group])


def test_nothing_that_another_service_needs_is_deleted(purged_stage: Stage, tmp_path: Path) -> None:
    stage = purged_stage
    slow = stage.settings("finetune", tmp_path / "slow" / "state")
    fast = stage.settings(
        "finetune", tmp_path / "fast" / "state", **held_to(tmp_path), stream={"shared_with": "slow"}
    )
    with running(fast) as service:
        service.has_learned(stage.total)
        until(
            lambda: "purging the broker waits for group slow" in service.log,
            "it says whom it waits for",
        )
        assert starts(stage) == {0: 0, 1: 0}
        with running(slow) as other:
            assert other.status() == 0
        assert Outcome.of(tmp_path / "slow" / "state").learned == stage.total
        # the purge ends at the oldest checkpoint of the slow service, to which it may fall back
        until(lambda: sum(starts(stage).values()) >= stage.total - 3 * EVERY, "the rest is purged")
        assert not gone(stage)
        service.send(signal.SIGTERM)
        assert service.status() == 0


def test_two_services_in_one_consumer_group_are_refused(purged_stage: Stage, tmp_path: Path) -> None:
    first = purged_stage.settings("finetune", tmp_path / "a" / "state", stream={"group": "both"})
    with running(first) as service:
        assert service.status() == 0
    more = held_to(tmp_path, on_violation="stop")
    second = purged_stage.settings("finetune", tmp_path / "b" / "state", stream={"group": "both"}, **more)
    with running(second) as service:
        assert service.status() == FAILED
        assert "stream.group both: another service" in service.log
    assert starts(purged_stage) == {0: 0, 1: 0}


def test_an_overdue_purge_stops_the_service_if_the_policy_says_so(
    purged_stage: Stage, tmp_path: Path
) -> None:
    more = held_to(tmp_path, on_violation="stop", purge={"within_seconds": 3})
    settings = purged_stage.settings(
        "finetune", tmp_path / "state" / "s", **more, stream={"shared_with": "nobody"}
    )
    with running(settings) as service:
        assert service.status() == FAILED
        assert "policy ward, purge:" in service.log
    newest = read_checkpoint(checkpoint_files(tmp_path / "state" / "s")[-1])
    assert newest.samples > 0
    assert resumed(newest).violated.keys() == {"purge"}  # or the alert would not outlive a restart
