"""Predictions are in their topic once each, however often the service or the broker is killed."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from kafka import KafkaAdminClient

from deploy.kafka.kraft import KafkaNode
from lethe.checkpointing.checkpoint import read_checkpoint
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.experiments.chaos.kill_loop import run_with_kills
from lethe.experiments.chaos.kill_plan import plan_kills
from lethe.experiments.chaos.outcome import Outcome
from lethe.settings import Settings
from tests.support.faults.checkpoint_steps import KillAt
from tests.support.faults.services import EVERY, FAILED, Forked, Stage, running
from tests.support.faults.topics import Fill, records
from tests.support.predictions import predictions_in
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")

STEPS: Final = ("taken", "written", "renamed", "committed")

Place = tuple[int, int]


def read(stage: Stage, topic: str) -> dict[Place, dict[str, Any]]:
    """The predictions by partition and offset of their records; fails if there are two for a record."""
    found = predictions_in(stage.bootstrap_servers, topic)
    by_place = {(made["partition"], made["offset"]): made for made in found}
    assert len(by_place) == len(found), "a prediction is there twice"
    for made in found:
        for own in ("topic_id", "sent_with"):
            del made[own]  # the consumer group is named after the run's folder
    return by_place


@pytest.fixture(scope="module")
def undisturbed(
    stage: Stage, run_alone: Callable[..., Outcome], tmp_path_factory: pytest.TempPathFactory
) -> dict[Place, dict[str, Any]]:
    """The predictions of a run that is left alone."""
    run_alone(
        stage,
        "finetune",
        tmp_path_factory.mktemp("predictions") / "state",
        stream={"predictions_topic": "faults.alone"},
    )
    found = read(stage, "faults.alone")
    assert len(found) == stage.total
    return found


def test_what_was_written_before_a_kill_is_not_written_again(
    stage: Stage, undisturbed: dict[Place, dict[str, Any]], topic: str, tmp_path: Path
) -> None:
    predictions = f"{topic}.predictions"
    settings = stage.settings("finetune", tmp_path / "state", stream={"predictions_topic": predictions})
    for nth, step in enumerate(STEPS):
        with running(settings, KillAt(step, left=1 if nth else 3)) as service:
            assert service.status() == -signal.SIGKILL, step
        if step == "taken":  # every prediction up to there is written, and no checkpoint knows it
            newest = read_checkpoint(checkpoint_files(tmp_path / "state")[-1])
            assert len(read(stage, predictions)) > newest.samples
    with running(settings) as service:
        assert service.status() == 0
    assert read(stage, predictions) == undisturbed


def test_a_checkpoint_before_all_is_learned_again_hides_none_that_is_written(
    stage: Stage, undisturbed: dict[Place, dict[str, Any]], topic: str, tmp_path: Path
) -> None:
    predictions = f"{topic}.predictions"

    def settings(every: int) -> Settings:
        return stage.settings(
            "finetune",
            tmp_path / "state",
            stream={"predictions_topic": predictions},
            checkpoint={"every_samples": every},
        )

    for every, step, left in ((EVERY, "taken", 3), (EVERY // 2, "committed", 1)):
        with running(settings(every), KillAt(step, left=left)) as service:
            assert service.status() == -signal.SIGKILL, step
    newest = read_checkpoint(checkpoint_files(tmp_path / "state")[-1])
    assert len(read(stage, predictions)) > newest.samples > EVERY
    with running(settings(EVERY)) as service:
        assert service.status() == 0
    assert read(stage, predictions) == undisturbed


@pytest.mark.long
@pytest.mark.parametrize("learner", ["finetune", "ridge"])
def test_killed_at_random_instants(
    learner: str,
    stage: Stage,
    untouched: Callable[[str], Outcome],
    topic: str,
    tmp_path: Path,
) -> None:
    predictions = f"{topic}.predictions"
    settings = stage.settings(learner, tmp_path / "state", stream={"predictions_topic": predictions})
    run_with_kills(lambda: Forked(settings), plan_kills(15, stage.total, 0.6, seed=5))
    assert len(read(stage, predictions)) == stage.total
    assert Outcome.of(tmp_path / "state") == untouched(learner)


@pytest.mark.long
def test_learning_waits_for_a_broker_that_is_killed_and_loses_no_prediction(
    fill: Fill, topic: str, kafka_node: KafkaNode, tmp_path: Path
) -> None:
    first, rest = records("a", 800, 1), records("b", 800, 2)
    stage = replace(fill(topic, first), total=len(first) + len(rest))
    predictions = f"{topic}.predictions"
    settings = stage.settings(
        "finetune",
        tmp_path / "state",
        stream={"predictions_topic": predictions},
        checkpoint={"every_seconds": 2.0},
    )
    with running(settings) as service:
        service.has_learned(200)
        kafka_node.kill()
        try:
            until(lambda: "learning waits until predictions can be written" in service.log, "it says so")
            turned = service.metric("lethe_last_turn_timestamp_seconds")
            until(lambda: service.metric("lethe_last_turn_timestamp_seconds") > turned, "it is alive")
            assert service.metric("lethe_predictions_waiting") == 1
        finally:
            kafka_node.start()
        fill(topic, rest)
        assert service.status() == 0
    assert "predictions are written again" in service.log
    assert len(read(stage, predictions)) == stage.total


@pytest.mark.long
def test_a_service_that_is_stopped_while_the_broker_is_away_ends_and_continues_later(
    fill: Fill, topic: str, kafka_node: KafkaNode, tmp_path: Path
) -> None:
    stage = fill(topic, records("a", 800, 1))
    predictions = f"{topic}.predictions"
    more = {"stream": {"predictions_topic": predictions, "stop_after": 1600}}
    settings = stage.settings("finetune", tmp_path / "state", **more, checkpoint={"every_seconds": 1.0})
    with running(settings) as service:
        service.has_learned(200)
        kafka_node.kill()
        try:
            until(lambda: "learning waits until predictions" in service.log, "it waits")
            service.send(signal.SIGTERM)
            assert service.status() == 0
        finally:
            kafka_node.start()
    fill(topic, records("b", 800, 2))
    with running(settings) as service:
        assert service.status() == 0
    assert len(read(replace(stage, total=1600), predictions)) == 1600


def test_a_topic_that_rejects_predictions_stops_the_service_without_loss(
    fill: Fill, topic: str, kafka_node: KafkaNode, tmp_path: Path
) -> None:
    stage = fill(topic, records("a", 400, 3))
    predictions = f"{topic}.predictions"
    with KafkaAdminClient(bootstrap_servers=kafka_node.bootstrap_servers) as admin:
        small = {"max.message.bytes": "100"}
        admin.create_topics({predictions: {"num_partitions": 1, "replication_factor": 1, "configs": small}})
    settings = stage.settings("finetune", tmp_path / "state", stream={"predictions_topic": predictions})
    with running(settings) as service:
        assert service.status() == FAILED
        assert f"topic {predictions} rejects a prediction" in service.log
    assert all(not read_checkpoint(path).samples for path in checkpoint_files(tmp_path / "state"))
    assert read(stage, predictions) == {}
