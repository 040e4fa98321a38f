"""What the fault tests share: one filled topic, and for each learner a run that nothing befell."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from deploy.kafka.kraft import KafkaNode
from producers.publisher import Broker, Publisher
from producers.records import Record
from service.chaos.outcome import Outcome
from service.probeset import ProbeSet, save_probe
from service.wire import Sample, encode
from tests.faults.harness import SIZE, Stage, running

SAMPLES = 1600
PARTITIONS = 2

Outgoing = tuple[bytes | None, list[tuple[str, bytes]]]
Fill = Callable[[str, list[Outgoing]], Stage]


@pytest.fixture(scope="session")
def fill(kafka_node: KafkaNode, tmp_path_factory: pytest.TempPathFactory) -> Fill:
    """Creates a topic with these records."""
    probes = tmp_path_factory.mktemp("probes")
    for order, name in enumerate("ab"):
        x_NCHW, y_N = images(40, seed=90 + order)
        save_probe(ProbeSet(name, x_NCHW, y_N, "made up", "none needed"), probes, order)

    def create(topic: str, records: list[Outgoing]) -> Stage:
        with Publisher(Broker(kafka_node.bootstrap_servers), topic, PARTITIONS) as publisher:
            for i, (value, headers) in enumerate(records):
                publisher.send(Record(i, b"%d" % i, value, list(headers)), i % PARTITIONS)
            publisher.flush()
        return Stage(kafka_node.bootstrap_servers, topic, len(records), probes)

    return create


@pytest.fixture(scope="session")
def stage(fill: Fill) -> Stage:
    """A topic of two segments that nobody changes."""
    return fill("faults", [*records("a", SAMPLES // 2, 1), *records("b", SAMPLES // 2, 2)])


@pytest.fixture(scope="session")
def untouched(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Outcome]:
    """What a learner's run over the stage comes to when nothing befalls it."""

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


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y_N = rng.integers(0, 10, count)
    x_NCHW = rng.integers(0, 100, (count, 1, SIZE, SIZE), np.uint8)
    x_NCHW[np.arange(count), 0, y_N % SIZE, y_N // 2] = 255
    return x_NCHW, y_N


def records(segment: str, count: int, seed: int) -> list[Outgoing]:
    x_NCHW, y_N = images(count, seed)
    return [encode(Sample(x, int(y), segment)) for x, y in zip(x_NCHW, y_N, strict=True)]
