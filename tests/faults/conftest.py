"""Fixtures of the fault tests: a filled topic, and an undisturbed run of each learner on it."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from deploy.kafka.kraft import KafkaNode
from lethe.experiments.chaos.outcome import Outcome
from lethe.probeset import ProbeSet, save_probe
from lethe.stream.connection import Cluster
from lethe_producers.publisher import Publisher
from lethe_producers.records import Record
from tests.support.faults.services import Stage, running
from tests.support.faults.topics import PARTITIONS, Fill, Outgoing, images, records

SAMPLES = 1600


@pytest.fixture(scope="session")
def fill(kafka_node: KafkaNode, tmp_path_factory: pytest.TempPathFactory) -> Fill:
    """Creates a topic with these records."""
    probes = tmp_path_factory.mktemp("probes")
    for order, name in enumerate("ab"):
        x_NCHW, y_N = images(40, seed=90 + order)
        save_probe(ProbeSet(name, x_NCHW, y_N, "made up", "none needed"), probes, order)

    def create(topic: str, records: list[Outgoing], partitions: int = PARTITIONS) -> Stage:
        with Publisher(Cluster(kafka_node.bootstrap_servers), topic, partitions) as publisher:
            for i, (value, headers) in enumerate(records):
                publisher.send(Record(i, b"%d" % i, value, list(headers)), i % partitions)
            publisher.flush()
        return Stage(kafka_node.bootstrap_servers, topic, len(records), probes)

    return create


@pytest.fixture(scope="session")
def stage(fill: Fill) -> Stage:
    """A shared topic of two segments."""
    return fill("faults", [*records("a", SAMPLES // 2, 1), *records("b", SAMPLES // 2, 2)])


@pytest.fixture(scope="session")
def untouched(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Outcome]:
    """The outcome of a learner's undisturbed run over the stage."""

    @cache
    def outcome(learner: str) -> Outcome:
        return outcome_of(stage, learner, tmp_path_factory.mktemp(f"untouched-{learner}") / "state")

    return outcome


def outcome_of(stage: Stage, learner: str, folder: Path, **more: object) -> Outcome:
    with running(stage.settings(learner, folder, **more)) as service:
        assert service.status() == 0, service.log
    return Outcome.of(folder)


@pytest.fixture(scope="session")
def run_alone() -> Callable[..., Outcome]:
    return outcome_of
