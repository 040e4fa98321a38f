"""`lethe merge` and `lethe verify` with a topic: what services know is read again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka import KafkaAdminClient, TopicPartition
from typer.testing import CliRunner

from deploy.kafka.kraft import KafkaNode
from lethe.cli.main import app
from lethe.errors import BrokerUnavailable, InvalidFile, PositionLost
from lethe.privacy.merge import merge_states
from lethe.privacy.subtract import subtract_state
from lethe.privacy.verify_sums import verify_topic
from lethe.wire import Layout, Sample, encode
from tests.support.brokers import StreamBroker, of_kafka
from tests.support.checkpoints import newest
from tests.support.ledgers import passed_audit
from tests.support.services import service
from tests.support.streams import Outgoing, send, settings_of

LAYOUT = Layout(height=8, width=8)
MALFORMED: Outgoing = (0, b"no PNG", [("content-type", b"image/png"), ("label", b"1")])


def image(number: int) -> Sample:
    pixels = np.random.default_rng(number).integers(0, 256, LAYOUT.shape, dtype=np.uint8)
    return Sample(pixels, number % 10)


def records(first: int, until: int) -> list[Outgoing]:
    """Records in turns over two partitions."""
    return [(number % 2, *encode(image(number))) for number in range(first, until)]


def learn(broker: StreamBroker, topic: str, folder: Path, stop_after: int, **more: object) -> Path:
    """Run a service to the end; return its state folder."""
    folder.mkdir(exist_ok=True)
    state = folder / "state"
    variables = {
        "LEARNER__NAME": "ridge",
        "LEARNER__OPTIONS": '{"waves": 100}',
        "SAMPLE__HEIGHT": 8,
        "SAMPLE__WIDTH": 8,
        "BATCH__SIZE": 20,
        "CHECKPOINT__FOLDER": state,
        "STREAM__STOP_AFTER": stop_after,
    }
    with service(broker, topic, folder, **variables | more) as running:
        assert running.process.wait(120) == 0, running.log
    return state


@pytest.mark.needs("kafka")
def test_two_ranks_merged_and_continued_have_the_hash_of_one_service(
    kafka_node: KafkaNode, topic: str, tmp_path: Path
) -> None:
    broker = of_kafka(kafka_node)
    broker.create_topic(topic, 2)
    send(broker, topic, records(0, 160))
    ranks = [
        learn(broker, topic, tmp_path / str(rank), 80, STREAM__RANK=rank, STREAM__WORLD=2)
        for rank in range(2)
    ]
    merge_states(ranks, tmp_path / "both" / "state")
    stream = settings_of(broker, topic)
    assert verify_topic(tmp_path / "both" / "state", stream).equal
    send(broker, topic, records(160, 240))
    both = learn(broker, topic, tmp_path / "both", 240)
    alone = learn(broker, topic, tmp_path / "alone", 240)
    verdicts = [verify_topic(state, stream) for state in (both, alone)]
    assert [(verdict.equal, verdict.samples) for verdict in verdicts] == [(True, 240)] * 2
    assert verdicts[0].stored == verdicts[1].stored
    assert newest(both).position.offsets == newest(alone).position.offsets == {0: 120, 1: 120}
    passed_audit(both)
    subtract_state(both, ranks[1], tmp_path / "less")
    less = verify_topic(tmp_path / "less", stream)
    assert (less.equal, less.samples) == (True, 160)


def verified(broker: StreamBroker, *arguments: object) -> tuple[int, dict[str, Any]]:
    words = ["verify", *map(str, arguments), "--bootstrap-servers", broker.bootstrap_servers, "--json"]
    done = CliRunner().invoke(app, words)
    return done.exit_code, json.loads(done.stdout)


@pytest.mark.needs("kafka")
def test_malformed_records_are_left_out_and_forgotten_ones_can_be(
    kafka_node: KafkaNode, topic: str, tmp_path: Path
) -> None:
    broker = of_kafka(kafka_node)
    broker.create_topic(topic, 2)
    send(broker, topic, [*records(0, 41), MALFORMED, *records(41, 80), *records(80, 90)])
    state = learn(broker, topic, tmp_path / "one", 81)
    status, verdict = verified(broker, state)
    assert (status, verdict["samples"], verdict["equal"]) == (0, 80, True)
    forgotten = tmp_path / "forgotten.npz"
    np.savez(forgotten, x=np.stack([image(7).pixels]), y=np.array([7]))
    assert CliRunner().invoke(app, ["forget", str(state), str(forgotten), "--trust-labels"]).exit_code == 0
    assert verified(broker, state)[0] == 1
    status, verdict = verified(broker, state, "--without", forgotten)
    assert (status, verdict["samples"], verdict["equal"]) == (0, 79, True)
    np.savez(forgotten, x=np.stack([image(8).pixels]), y=np.array([8]))
    assert verified(broker, state, "--without", forgotten)[0] == 1
    np.savez(forgotten, x=np.stack([image(8).pixels]), y=np.array([9]))
    with pytest.raises(InvalidFile, match="1 samples of --without are not among the records"):
        verify_topic(state, settings_of(broker, topic), without=[forgotten])


@pytest.mark.needs("kafka")
def test_records_that_are_gone_cannot_be_compared(kafka_node: KafkaNode, topic: str, tmp_path: Path) -> None:
    broker = of_kafka(kafka_node)
    broker.create_topic(topic, 2)
    send(broker, topic, records(0, 80))
    state = learn(broker, topic, tmp_path / "one", 80)
    with KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers) as admin:
        admin.delete_records({TopicPartition(topic, 1): 30})
    with pytest.raises(PositionLost, match="partition 1: offsets 0 to 29 were learned and are no longer"):
        verify_topic(state, settings_of(broker, topic))


def test_a_topic_of_another_name_is_read_if_it_holds_the_same_records(
    broker: StreamBroker, topic: str, tmp_path: Path
) -> None:
    for name in (topic, f"{topic}-mirror", f"{topic}-short", f"{topic}-narrow"):
        broker.create_topic(name, 1 if name.endswith("narrow") else 2)
    send(broker, topic, records(0, 80))
    send(broker, f"{topic}-mirror", records(0, 80))
    send(broker, f"{topic}-short", records(0, 60))
    state = learn(broker, topic, tmp_path / "one", 80)
    stream = settings_of(broker, topic)
    assert verify_topic(state, stream, f"{topic}-mirror").equal
    with pytest.raises(PositionLost, match="offsets up to 39 were learned, and it ends before 30"):
        verify_topic(state, stream, f"{topic}-short")
    with pytest.raises(PositionLost, match="has no partition 1"):
        verify_topic(state, stream, f"{topic}-narrow")
    with pytest.raises(BrokerUnavailable, match=f"{topic}-none"):
        verify_topic(state, stream, f"{topic}-none")
