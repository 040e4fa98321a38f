"""Commits only show how far learning is: if they fail, learning continues."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from kafka import KafkaConsumer

from deploy.kafka.kraft import KafkaNode
from lethe.experiments.chaos.clients import subscribe
from lethe.experiments.chaos.outcome import Outcome
from tests.support.brokers import of_kafka
from tests.support.faults.policies import held_to
from tests.support.faults.services import EVERY, Forked, Stage, running
from tests.support.faults.topics import Fill, records, starts
from tests.support.streams import send
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")

REFUSED = "the broker rejects offset commits"
SOON = {"every_samples": EVERY, "every_seconds": 0.5}


@contextmanager
def subscriber(bootstrap_servers: str, group: str, topic: str) -> Iterator[KafkaConsumer]:
    """A foreign consumer that has joined ``group`` and is subscribed to ``topic``."""
    with KafkaConsumer(
        bootstrap_servers=bootstrap_servers, group_id=group, enable_auto_commit=False
    ) as consumer:
        subscribe(consumer, topic)
        until(lambda: consumer.poll(200) is not None and consumer.assignment(), "it has joined the group")
        yield consumer


def warned(service: Forked) -> int:
    return service.log.count(REFUSED)


@pytest.mark.parametrize("early", [True, False], ids=["before the start", "midway"])
def test_another_consumer_that_subscribes_in_the_group_ends_nothing(
    early: bool, fill: Fill, topic: str, kafka_node: KafkaNode, tmp_path: Path
) -> None:
    first, rest = records("a", 400, 1), records("b", 400, 2)
    stage = replace(fill(topic, first), total=800)
    settings = stage.settings("finetune", tmp_path / "kept" / "state", checkpoint=SOON)
    group = settings.stream.group
    if early:
        with subscriber(stage.bootstrap_servers, group, topic), running(settings) as service:
            until(lambda: warned(service) == 1, "it says that commits are refused")
            service.has_learned(256)
            fill(topic, rest)
            assert service.status() == 0
    else:
        with running(settings) as service:
            service.has_learned(256)
            with subscriber(stage.bootstrap_servers, group, topic):
                until(lambda: warned(service) == 1, "it says that commits are refused")
                assert f"group {group}: UnknownMemberIdError" in service.log
                assert service.metric("lethe_commits_failing") == 1
            until(
                lambda: "accepts offset commits again" in service.log,
                "it says that commits are taken again",
            )
            assert service.metric("lethe_commits_failing") == 0
            fill(topic, rest)
            assert service.status() == 0
    assert warned(service) == 1
    assert Outcome.of(tmp_path / "kept" / "state").learned == 800


@pytest.fixture(scope="module")
def without_offsets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaNode]:
    """A broker that cannot store offsets: their topic would need three replicas."""
    folder = tmp_path_factory.mktemp("without-offsets")
    with KafkaNode(folder, properties={"offsets.topic.replication.factor": "3"}) as node:
        yield node


@pytest.mark.parametrize("purges", [False, True])
def test_a_broker_that_cannot_keep_offsets_is_learned_from(
    purges: bool, without_offsets: KafkaNode, topic: str, tmp_path: Path
) -> None:
    broker = of_kafka(without_offsets)
    broker.create_topic(topic, 2)
    send(broker, topic, [(n % 2, *record) for n, record in enumerate(records("a", 400, 1))])
    stage = Stage(broker.bootstrap_servers, topic, 401, tmp_path)
    more = held_to(tmp_path) if purges else {}
    settings = stage.settings("ncm", tmp_path / "kept" / "state", evaluation={"probes": None}, **more)
    with running(settings) as service:
        service.has_learned(384)
        until(lambda: warned(service) == 1, "it says that commits are refused")
        if purges:
            waits = "purging the broker waits for the broker to accept this service's own commits"
            until(lambda: waits in service.log, "it says what the purge waits for")
        service.send(signal.SIGTERM)
        assert service.status() == 0
    assert Outcome.of(tmp_path / "kept" / "state").learned == 384, "whole batches"
    assert "CoordinatorNotAvailableError" in service.log
    assert "__consumer_offsets" in service.log
    if purges:
        assert starts(stage) == {0: 0, 1: 0}


def test_a_purge_waits_while_another_consumer_is_in_the_group(fill: Fill, topic: str, tmp_path: Path) -> None:
    stage = replace(fill(topic, records("a", 400, 1)), total=401)
    settings = stage.settings("ncm", tmp_path / "kept" / "state", checkpoint=SOON, **held_to(tmp_path))
    with subscriber(stage.bootstrap_servers, settings.stream.group, topic), running(settings) as service:
        service.has_learned(384)
        until(
            lambda: "waits for the broker to accept this service's own commits" in service.log,
            "it says so",
        )
        assert starts(stage) == {0: 0, 1: 0}
        assert service.metric("lethe_purge_held_up") == 1
    with running(settings) as service:
        until(lambda: sum(starts(stage).values()) >= 256, "what no group needs is deleted")
