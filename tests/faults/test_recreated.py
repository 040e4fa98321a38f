"""A recreated topic is detected before any of its records is learned or deleted."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.errors import TopicAlreadyExistsError

from deploy.kafka.kraft import KafkaNode
from lethe.checkpointing.checkpoint import read_checkpoint
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.errors import TopicReplaced
from lethe.privacy.audit.evidence import checkpoint_totals
from lethe.privacy.audit.ledger import read_entries
from lethe.privacy.audit.verify import audit
from lethe.stream.consumer import KafkaSource
from lethe.stream.settings import StreamSettings
from lethe.stream.source import Record
from tests.support.faults.policies import held_to
from tests.support.faults.services import FAILED, Forked, Stage
from tests.support.faults.topics import PARTITIONS, Fill, records, starts
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")

OLD = 400
GONE = "was deleted and created anew"

Recreate = Callable[[str], None]


@pytest.fixture
def recreate(kafka_node: KafkaNode) -> Recreate:
    """Deletes a topic and creates it again, empty."""

    def over_the_wire(topic: str) -> None:
        with KafkaAdminClient(bootstrap_servers=kafka_node.bootstrap_servers) as admin:
            admin.delete_topics([topic])
            deadline = time.monotonic() + 90
            while time.monotonic() < deadline:
                try:
                    admin.create_topics({topic: {"num_partitions": PARTITIONS, "replication_factor": 1}})
                except TopicAlreadyExistsError:
                    time.sleep(0.05)  # the deletion is on its way
                else:
                    return
            pytest.fail("the topic is not deleted")

    return over_the_wire


def endless(stage: Stage, folder: Path, accept_loss: bool = False, **more: object) -> Forked:
    """A service that waits for more once it has learned all records."""
    stream = {"stop_after": None, "accept_loss": accept_loss}
    return Forked(stage.settings("ncm", folder, stream=stream, batch={"size": 10}, **more))


@pytest.mark.parametrize("anew", [OLD // 2, OLD * 2], ids=["shorter", "longer"])
def test_without_accept_loss_the_service_stops_and_learns_nothing_of_the_new_topic(
    anew: int, fill: Fill, topic: str, recreate: Recreate, tmp_path: Path
) -> None:
    stage = fill(topic, records("a", OLD, 1))
    service = endless(stage, tmp_path / "state")
    try:
        service.has_learned(OLD)
        recreate(topic)
        fill(topic, records("b", anew, 2))
        assert service.status() == FAILED
        assert GONE in service.log
        newest = read_checkpoint(checkpoint_files(tmp_path / "state")[-1])
        assert newest.samples == OLD
        service = endless(stage, tmp_path / "state")
        assert service.status() == FAILED
        assert GONE in service.log
    finally:
        service.kill()


@pytest.mark.parametrize("anew", [OLD // 2, OLD * 2], ids=["shorter", "longer"])
def test_with_accept_loss_the_new_topic_is_learned_whole_and_once(
    anew: int, fill: Fill, topic: str, recreate: Recreate, tmp_path: Path
) -> None:
    stage = fill(topic, records("a", OLD, 1))
    service = endless(stage, tmp_path / "state", accept_loss=True)
    try:
        service.has_learned(OLD)
        recreate(topic)
        fill(topic, records("b", anew, 2))
        service.has_learned(OLD + anew)
        assert "the topic was deleted and created anew" in service.log
        time.sleep(1)
        state = service.state()
        assert state["samples"]["learned"] == OLD + anew
        assert state["samples"]["lost"] == 0
        assert state["positions"] == {str(p): anew // PARTITIONS for p in range(PARTITIONS)}
        assert service.metric("lethe_samples_last_lost_timestamp_seconds") > 0, "the alert goes by this"
    finally:
        service.kill()
    assert audited(tmp_path / "state") == []


def test_a_purging_service_deletes_nothing_of_the_new_topic(
    fill: Fill, topic: str, recreate: Recreate, tmp_path: Path
) -> None:
    stage = fill(topic, records("a", OLD, 1))
    service = endless(stage, tmp_path / "state", **held_to(tmp_path))
    try:
        service.has_learned(OLD)
        until(lambda: sum(starts(stage).values()) > 0, "something is purged")
        recreate(topic)
        fill(topic, records("b", 2 * OLD, 2))
        assert service.status() == FAILED
        assert GONE in service.log
        assert sum(starts(stage).values()) == 0
    finally:
        service.kill()


def audited(folder: Path) -> list[str]:
    """The failed findings of an audit."""
    verdict = audit(read_entries(folder / "ledger.jsonl"), known=checkpoint_totals(folder))
    return [finding.answer for finding in verdict.findings if not finding.passed]


def test_a_reader_notices_before_it_hands_over_a_record(fill: Fill, topic: str, recreate: Recreate) -> None:
    with pytest.raises(TopicReplaced):
        read_on(fill, topic, recreate, each=lambda records: pytest.fail(f"{len(records)} of the new topic"))


def test_a_reader_of_a_broker_that_fetches_by_name_notices_with_the_next_metadata(
    fill: Fill, topic: str, recreate: Recreate
) -> None:
    with pytest.raises(TopicReplaced):
        read_on(fill, topic, recreate, each=len, api_version="3.0", growth_seconds=0.5)


def read_on(
    fill: Fill, topic: str, recreate: Recreate, each: Callable[[list[Record]], object], **more: object
) -> None:
    """Read a topic before and after it is recreated."""
    stage = fill(topic, records("a", 20, 1))
    given = {"bootstrap_servers": stage.bootstrap_servers, "topic": topic, **more}
    source = KafkaSource(StreamSettings.model_validate(given))
    try:
        source.seek({})
        read = 0
        while read < 20:
            read += len(source.poll(0.2, 500, ()))
        recreate(topic)
        fill(topic, records("b", 100, 2))
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            if found := source.poll(0.2, 500, ()):
                each(found)
    finally:
        source.close()
