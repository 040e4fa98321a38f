"""From a Kafka topic to batches through the feeder's process, on both brokers."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition
from PIL import Image

from deploy.kafka.kraft import KafkaNode
from service.errors import FeederDied, PositionLost
from service.feed import FeederProcess
from service.slots import BatchSettings
from service.stream.embedded import EmbeddedBroker
from service.stream.source import Position
from service.wire import PNG, Reason, encode
from tests.brokers import StreamBroker
from tests.streams import LAYOUT, Heard, Outgoing, closing, hear, letters, sample, send, sent, settings_of

CHECKOUT = Path(__file__).parents[2]
BATCH = BatchSettings(size=8, slots=3)


@dataclass(frozen=True)
class Switch:
    """A broker's power switch."""

    off: Callable[[], None]
    on: Callable[[], None]


@pytest.fixture
def switch(broker: StreamBroker, request: pytest.FixtureRequest) -> Switch:
    if broker.kind == "kafka":
        node: KafkaNode = request.getfixturevalue("kafka_node")
        request.addfinalizer(node.start)  # noqa: PT021 - other tests need the node, whatever becomes of this one
        return Switch(node.stop, node.start)
    embedded: EmbeddedBroker = request.getfixturevalue("embedded_broker")
    return Switch(embedded.down, embedded.up)


def feeder(
    broker: StreamBroker, topic: str, position: Position | None = None, **more: object
) -> FeederProcess:
    return FeederProcess(settings_of(broker, topic, **more), BATCH, LAYOUT, position)


def ended(heard: Heard) -> bool:
    return bool(heard.filled) and heard.filled[-1].last


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("partitions", [1, 4])
def test_samples_arrive_in_the_order_in_which_they_were_sent(
    broker: StreamBroker, topic: str, partitions: int
) -> None:
    broker.create_topic(topic, partitions)
    send(broker, topic, sent(range(100), partitions))
    with closing(feeder(broker, topic, stop_after=100)) as feed:
        heard = hear(feed, Heard(), ended)
        assert feed.resident == 0
    assert heard.numbers == list(range(100))
    assert heard.labels == [number % 10 for number in range(100)]
    assert [filled.samples for filled in heard.filled] == [8] * 12 + [4]
    assert heard.ups == [True]
    segments = [run for filled in heard.filled for run in filled.segments]
    assert sum(count for _, count in segments) == 100
    assert {name for name, _ in segments} == {"even", "odd"}
    assert heard.position.offsets == dict.fromkeys(range(partitions), 100 // partitions)


def test_a_second_run_goes_on_where_the_first_one_stopped(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 3)
    send(broker, topic, sent(range(60), 3))
    with closing(feeder(broker, topic, stop_after=32)) as feed:
        first = hear(feed, Heard(), ended)
    with closing(feeder(broker, topic, first.position, stop_after=28)) as feed:
        second = hear(feed, Heard(), ended)
    assert first.numbers + second.numbers == list(range(60))


def test_a_slot_that_becomes_free_does_not_disturb_the_one_being_filled(
    broker: StreamBroker, topic: str
) -> None:
    broker.create_topic(topic, 1)
    send(broker, topic, sent(range(12)))
    with closing(feeder(broker, topic, stop_after=16)) as feed:
        deadline = time.monotonic() + 30
        while feed.resident < 12 and time.monotonic() < deadline:
            time.sleep(0.05)
        heard = hear(feed, Heard(), lambda heard: heard.received == 8)  # which frees its slot
        send(broker, topic, sent(range(12, 16)))
        hear(feed, heard, ended)
    assert heard.numbers == list(range(16))


def malformed() -> dict[Reason, Outgoing]:
    """A record for every reason there is."""
    value, headers = encode(sample(1))

    def changed(**changes: bytes) -> Outgoing:
        return (
            0,
            value,
            list((dict(headers) | {k.replace("_", "-"): v for k, v in changes.items()}).items()),
        )

    return {
        Reason.NULL_VALUE: (0, None, headers),
        Reason.OVERSIZED: (0, bytes(501), headers),
        Reason.MISSING_HEADER: (0, value, []),
        Reason.BAD_HEADER: changed(label=b"three"),
        Reason.UNSUPPORTED_VERSION: changed(lethe_version=b"2"),
        Reason.CONTENT_TYPE: changed(content_type=b"image/jpeg"),
        Reason.UNDECODABLE: changed(content_type=PNG.encode()),
        Reason.WRONG_SHAPE: changed(shape=b"1,4,1"),
        Reason.WRONG_DTYPE: changed(dtype=b"float32"),
        Reason.LABEL_OUT_OF_RANGE: changed(label=b"10"),
    }


@pytest.mark.parametrize("payloads", [False, True])
def test_every_malformed_record_is_reported_and_the_stream_goes_on(
    broker: StreamBroker, topic: str, payloads: bool
) -> None:
    broker.create_topic(topic, 1)
    if broker.kind == "embedded":  # it cannot be asked to create one
        broker.create_topic(f"{topic}.dead-letters", 1)
    records = malformed()
    assert set(records) == set(Reason)
    send(broker, topic, [*records.values(), *sent(range(6))])
    with closing(feeder(broker, topic, stop_after=16, dead_letter_payloads=payloads)) as feed:
        heard = hear(feed, Heard(), ended)
    assert heard.numbers == list(range(6))
    assert heard.dead == dict.fromkeys(Reason, 1)
    found = letters(broker, topic, len(records))
    assert [key for key, _, _ in found] == [f"{topic}/0/{offset}".encode() for offset in range(len(records))]
    for offset, ((reason, (_, value, _)), (_, payload, headers)) in enumerate(
        zip(records.items(), found, strict=True)
    ):
        assert payload == (value if payloads else None)
        assert headers["lethe-topic"] == topic
        assert (headers["lethe-partition"], headers["lethe-offset"]) == ("0", str(offset))
        assert (headers["lethe-reason"], headers["lethe-size"]) == (reason, str(len(value or b"")))
        assert len(headers["lethe-sha256"]) == 64
        assert headers["lethe-detail"]


def test_what_was_learned_can_be_read_with_kafkas_own_tools(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 2)
    send(broker, topic, sent(range(16), 2))
    group = f"group-{topic}"
    with closing(feeder(broker, topic, group=group)) as feed:
        heard = hear(feed, Heard(), lambda heard: heard.received == 16)
        feed.commit(heard.filled[0].position)
        with KafkaConsumer(
            bootstrap_servers=broker.bootstrap_servers,
            api_version=broker.api_version,
            group_id=group,
            enable_auto_commit=False,
        ) as tool:
            deadline = time.monotonic() + 20
            while tool.committed(TopicPartition(topic, 1)) != 4 and time.monotonic() < deadline:
                time.sleep(0.1)
            assert [tool.committed(TopicPartition(topic, p)) for p in range(2)] == [4, 4]


def test_a_topic_that_is_created_later_is_read_then(broker: StreamBroker, topic: str) -> None:
    with closing(feeder(broker, topic, stop_after=8)) as feed:
        heard = hear(feed, Heard(), lambda heard: heard.ups == [False])
        assert f"has no topic {topic}" in heard.states[0].detail
        broker.create_topic(topic, 1)
        send(broker, topic, sent(range(8)))
        hear(feed, heard, ended)
    assert heard.ups == [False, True]
    assert heard.numbers == list(range(8))


def test_a_broker_that_is_away_at_the_start_and_midway_costs_nothing(
    broker: StreamBroker, topic: str, switch: Switch
) -> None:
    broker.create_topic(topic, 2)
    send(broker, topic, sent(range(50), 2))
    switch.off()
    with closing(feeder(broker, topic, stop_after=100)) as feed:
        heard = hear(feed, Heard(), lambda heard: heard.ups == [False])
        assert broker.bootstrap_servers in heard.states[0].detail
        switch.on()
        hear(feed, heard, lambda heard: heard.received == 48)
        switch.off()
        hear(feed, heard, lambda heard: heard.ups == [False, True, False])
        switch.on()
        send(broker, topic, sent(range(50, 100), 2))
        hear(feed, heard, ended)
    assert heard.ups == [False, True, False, True]
    assert heard.numbers == list(range(100))
    assert sum(filled.lost for filled in heard.filled) == 0


def test_a_position_that_is_not_in_the_topic_stops_the_feed(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    send(broker, topic, sent(range(8)))
    with (
        closing(feeder(broker, topic, Position({0: 9}))) as feed,
        pytest.raises(PositionLost, match=f"topic {topic}, partition 0: offset 9 is past the end 8"),
    ):
        hear(feed, Heard(), lambda heard: False)


def test_a_feeder_that_is_killed_is_reported(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    with closing(feeder(broker, topic)) as feed:
        hear(feed, Heard(), lambda heard: heard.ups == [True])
        os.kill(feed._process.pid or 0, signal.SIGKILL)
        with pytest.raises(FeederDied, match="-9"):
            hear(feed, Heard(), lambda heard: False)


def test_closing_is_quick_and_leaves_no_pixel(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    send(broker, topic, sent(range(20)))
    feed = feeder(broker, topic)
    with closing(feed):
        deadline = time.monotonic() + 30
        while feed.resident != 20 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert feed.resident == 20
        began = time.monotonic()
    assert time.monotonic() - began < 4
    assert feed.resident == 0
    assert not feed._slots.x_SBCHW.any()
    assert feed._process.exitcode == 0


def test_closing_is_quick_while_the_broker_is_away(broker: StreamBroker, topic: str, switch: Switch) -> None:
    switch.off()
    with closing(feeder(broker, topic)) as feed:
        hear(feed, Heard(), lambda heard: heard.ups == [False])
        began = time.monotonic()
    assert time.monotonic() - began < 4


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc of Linux")
def test_a_killed_service_leaves_no_feeder(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    send(broker, topic, sent(range(20)))
    program = f"""
        import time
        from service.feed import FeederProcess
        from service.slots import BatchSettings
        from service.stream.settings import StreamSettings
        from service.wire import Layout
        if __name__ == "__main__":
            feed = FeederProcess(
                StreamSettings.model_validate_json({settings_of(broker, topic).model_dump_json()!r}),
                BatchSettings(size=8, slots=3),
                Layout.model_validate_json({LAYOUT.model_dump_json()!r}),
            )
            while feed.resident < 20:
                time.sleep(0.05)
            print(feed._process.pid, flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_alive(child)
        parent.kill()
    deadline = time.monotonic() + 10
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(child)


@pytest.mark.needs("kcat")
def test_a_png_sent_with_kcat_is_a_sample(broker: StreamBroker, topic: str, tmp_path: Path) -> None:
    broker.create_topic(topic, 1)
    picture = tmp_path / "three.png"
    Image.fromarray(sample(123456789).pixels[0]).save(picture)
    command = ["kcat", "-P", "-b", broker.bootstrap_servers, "-t", topic, "-p", "0"]
    headers = ["-H", "content-type=image/png", "-H", "label=3"]
    subprocess.run([*command, *headers, str(picture)], check=True, timeout=30)
    with closing(feeder(broker, topic, stop_after=1)) as feed:
        heard = hear(feed, Heard(), ended)
    assert (heard.numbers, heard.labels) == ([123456789], [3])
