"""Several ranks join late labels, each those of its own partitions, also when killed and dealt anew."""

import signal
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.kafka.kraft import KafkaNode
from lethe.checkpointing.checkpoint import read_position
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.errors import RankLost
from lethe.experiments.chaos.outcome import Outcome
from lethe.settings import Settings
from tests.support.checkpoints import newest
from tests.support.faults.late_labels import LateLabels, joined_in
from tests.support.faults.ranks import has_learned, sums, team
from tests.support.faults.services import FAILED, running
from tests.support.faults.topics import Fill, records
from tests.support.ledgers import passed_audit
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")

PARTITIONS: Final = 6
COUNT: Final = 960
WHOLE: Final = records("a", COUNT, 4)
MISSING: Final = [number for number in range(COUNT) if number // PARTITIONS % 2]
"""The records without a label: half of every partition."""
FIRST: Final = [number for number in MISSING if number < COUNT // 2]


@pytest.fixture
def late(fill: Fill, kafka_node: KafkaNode, topic: str) -> LateLabels:
    return LateLabels(kafka_node, fill, topic, WHOLE, MISSING, PARTITIONS)


def own_partition(number: int) -> int:
    return number % PARTITIONS


def settings(late: LateLabels, folder: Path, **more: Any) -> Settings:
    labels = {"topic": late.topic, "wait": 3600}
    return late.stage.settings("ridge", folder, batch={"size": 32}, labels=labels, **more)


@pytest.fixture(scope="module")
def complete(fill: Fill, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The SHA-256 of the sums of one service where every record has its label from the start."""
    folder = tmp_path_factory.mktemp("complete") / "state"
    stage = fill("ranks-with-all-labels", WHOLE, PARTITIONS)
    with running(stage.settings("ridge", folder, batch={"size": 32})) as service:
        assert service.status() == 0, service.log
    return sums(folder)


def check(state: Path, complete: str) -> None:
    found, last = Outcome.of(state), newest(state)
    assert (found.learned, found.dead, found.passed) == (COUNT, 0, COUNT)
    assert sums(state) == complete
    assert isinstance(last.counts, dict)
    assert (last.counts["labels_joined"], last.counts["labels_dropped"]) == (len(MISSING), {})
    assert last.position.labels.keys() == set(range(PARTITIONS))
    assert joined_in(state) == len(MISSING)
    passed_audit(state)


def test_a_rank_that_is_killed_meanwhile_loses_no_label(
    late: LateLabels, complete: str, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    late.create_topic(PARTITIONS)
    given = settings(late, state)
    late.send(FIRST[::-1], own_partition)
    with team(given, 2, tmp_path / "killed") as started:
        has_learned(started, state, 256)
        started.send(1, signal.SIGKILL)
        assert started.statuses() == [RankLost.status, -signal.SIGKILL]
    with team(given, 2, tmp_path / "last") as started:
        late.send(MISSING[len(FIRST) :], own_partition)
        assert started.statuses() == [0, 0], started.log
    check(state, complete)


@pytest.mark.long
def test_a_run_that_begins_at_the_end_of_the_topic_takes_labels_from_then_on(
    late: LateLabels, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    late.create_topic(PARTITIONS)
    late.send(FIRST, own_partition)
    given = settings(late, state, stream={"start": "latest"})
    with team(given, 2, tmp_path / "logs"):
        until(lambda: checkpoint_files(state), "the beginning is saved")
        begin = read_position(checkpoint_files(state)[0])
    sent = Counter(own_partition(number) for number in FIRST)
    assert begin.labels == {partition: sent[partition] for partition in range(PARTITIONS)}


@pytest.mark.long
def test_other_numbers_of_ranks_continue(late: LateLabels, complete: str, tmp_path: Path) -> None:
    state = tmp_path / "state"
    late.create_topic(PARTITIONS)
    given = settings(late, state)
    late.send(FIRST[::-1], own_partition)
    with running(given) as service:
        service.has_learned(128)
        service.send(signal.SIGTERM)
        assert service.status() == 0
    for ranks, number, samples in ((2, signal.SIGTERM, 256), (3, signal.SIGKILL, 384)):
        with team(given, ranks, tmp_path / f"{ranks}") as started:
            has_learned(started, state, samples)
            started.send(ranks - 1, number)
            assert any(started.statuses()) == (number == signal.SIGKILL)
    late.send(MISSING[len(FIRST) :], own_partition)
    with team(given, 4, tmp_path / "4") as started:
        assert started.statuses() == [0] * 4, started.log
    check(state, complete)


@pytest.mark.long
@pytest.mark.parametrize(
    ("partitions", "shift", "why"),
    [(PARTITIONS, 2, "has its label in partition"), (4, 0, "are read with those of samples")],
)
def test_labels_elsewhere_are_refused(
    partitions: int, shift: int, why: str, late: LateLabels, tmp_path: Path
) -> None:
    late.create_topic(partitions)
    if partitions == PARTITIONS:
        late.send(MISSING, lambda number: own_partition(number + shift))
    with team(settings(late, tmp_path / "state"), 2, tmp_path / "logs") as started:
        assert FAILED in started.statuses()
        assert why in started.log
