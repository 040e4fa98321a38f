"""From a Kafka topic to batches through the reader process, on both brokers."""

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
from lethe.errors import PositionLost, ReaderDied
from lethe.ingest.reader_process import ReaderProcess
from lethe.settings import BatchSettings
from lethe.stream.embedded_broker import EmbeddedBroker
from lethe.stream.source import Position
from lethe.wire import PNG, Layout, Reason, encode
from lethe_producers.malformed import kinds_of
from tests.support.brokers import StreamBroker, of_embedded
from tests.support.golden_pictures import GOLDEN_PICTURES, JPEG
from tests.support.pngs import RGB_PNG, chunk
from tests.support.streams import (
    LAYOUT,
    FeedLog,
    Outgoing,
    closing,
    letters,
    read_feed,
    sample,
    send,
    sent,
    settings_of,
)
from tests.support.waiting import until

CHECKOUT = Path(__file__).parents[2]
BATCH = BatchSettings(size=8, slots=3)


@dataclass(frozen=True)
class Switch:
    """Starts and stops a broker."""

    off: Callable[[], None]
    on: Callable[[], None]


@pytest.fixture
def switch(broker: StreamBroker, request: pytest.FixtureRequest) -> Switch:
    if broker.kind == "kafka":
        node: KafkaNode = request.getfixturevalue("kafka_node")
        request.addfinalizer(node.start)  # noqa: PT021 - other tests need the node, even if this one fails
        return Switch(node.stop, node.start)
    embedded: EmbeddedBroker = request.getfixturevalue("embedded_broker")
    return Switch(embedded.down, embedded.up)


def reader(
    broker: StreamBroker, topic: str, position: Position | None = None, **more: object
) -> ReaderProcess:
    return ReaderProcess(settings_of(broker, topic, **more), BATCH, LAYOUT, position)


def ended(seen: FeedLog) -> bool:
    return bool(seen.filled) and seen.filled[-1].last


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("partitions", [1, 4])
def test_samples_arrive_in_the_order_in_which_they_were_sent(
    broker: StreamBroker, topic: str, partitions: int
) -> None:
    broker.create_topic(topic, partitions)
    send(broker, topic, sent(range(100), partitions))
    with closing(reader(broker, topic, stop_after=100)) as feed:
        seen = read_feed(feed, FeedLog(), ended)
        assert feed.resident == 0
    assert seen.numbers == list(range(100))
    assert seen.labels == [number % 10 for number in range(100)]
    assert [filled.samples for filled in seen.filled] == [8] * 12 + [4]
    assert seen.ups == [True]
    segments = [run for filled in seen.filled for run in filled.segments]
    assert sum(count for _, count in segments) == 100
    assert {name for name, _ in segments} == {"even", "odd"}
    assert seen.position.offsets == dict.fromkeys(range(partitions), 100 // partitions)


def test_a_second_run_continues_after_the_first_one(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 3)
    send(broker, topic, sent(range(60), 3))
    with closing(reader(broker, topic, stop_after=32)) as feed:
        first = read_feed(feed, FeedLog(), ended)
    with closing(reader(broker, topic, first.position, stop_after=28)) as feed:
        second = read_feed(feed, FeedLog(), ended)
    assert first.numbers + second.numbers == list(range(60))


def test_a_slot_that_becomes_free_does_not_disturb_the_one_being_filled(
    broker: StreamBroker, topic: str
) -> None:
    broker.create_topic(topic, 1)
    send(broker, topic, sent(range(12)))
    with closing(reader(broker, topic, stop_after=16)) as feed:
        until(lambda: feed.resident == 12, "all are read")
        seen = read_feed(feed, FeedLog(), lambda seen: seen.received == 8)  # which frees its slot
        send(broker, topic, sent(range(12, 16)))
        read_feed(feed, seen, ended)
    assert seen.numbers == list(range(16))


def malformed() -> dict[Reason, Outgoing]:
    """A malformed record for every reason."""
    value, headers = encode(sample(1))
    png, png_headers = encode(sample(1), PNG)

    def changed(**changes: bytes) -> Outgoing:
        return (
            0,
            value,
            list((dict(headers) | {k.replace("_", "-"): v for k, v in changes.items()}).items()),
        )

    return {
        Reason.NULL_VALUE: (0, None, headers),
        Reason.OVERSIZED: (0, bytes(2001), headers),
        Reason.MISSING_HEADER: (0, value, []),
        Reason.BAD_HEADER: changed(label=b"three"),
        Reason.UNSUPPORTED_VERSION: changed(lethe_version=b"2"),
        Reason.CONTENT_TYPE: changed(content_type=b"image/jpeg"),
        Reason.UNDECODABLE: changed(content_type=PNG.encode()),
        Reason.WRONG_SHAPE: changed(shape=b"1,4,1"),
        Reason.WRONG_DTYPE: changed(dtype=b"float32"),
        Reason.LABEL_OUT_OF_RANGE: changed(label=b"10"),
        Reason.DAMAGED: (0, png[:-20] + bytes([png[-20] ^ 1]) + png[-19:], png_headers),
        Reason.TOO_COSTLY: (0, png[:33] + chunk(b"teXt", b"") * 100 + png[33:], png_headers),
    }


@pytest.mark.parametrize("payloads", [False, True])
def test_every_malformed_record_is_reported_and_reading_continues(
    broker: StreamBroker, topic: str, payloads: bool
) -> None:
    broker.create_topic(topic, 1)
    if broker.kind == "embedded":  # it cannot be asked to create one
        broker.create_topic(f"{topic}.dead-letters", 1)
    records = malformed()
    assert set(records) == set(kinds_of(Layout()))
    send(broker, topic, [*records.values(), *sent(range(6))])
    with closing(reader(broker, topic, stop_after=18, dead_letter_payloads=payloads)) as feed:
        seen = read_feed(feed, FeedLog(), ended)
    assert seen.numbers == list(range(6))
    assert seen.dead == dict.fromkeys(records, 1)
    found = letters(broker, topic, len(records))
    assert [key for key, _, _ in found] == [f"{topic}/0/{offset}".encode() for offset in range(len(records))]
    for offset, ((reason, (_, value, _)), (_, payload, headers)) in enumerate(
        zip(records.items(), found, strict=True)
    ):
        assert payload == (value if payloads else None)
        assert headers["lethe-topic"] == topic
        assert (headers["lethe-partition"], headers["lethe-offset"]) == ("0", str(offset))
        assert (headers["lethe-reason"], headers["lethe-size"]) == (reason, str(len(value or b"")))
        assert len(headers["lethe-hmac-sha256"]) == 64
        assert headers["lethe-detail"]


def test_pictures_are_read_in_the_accepted_formats_and_the_others_reported(
    broker: StreamBroker, topic: str
) -> None:
    broker.create_topic(topic, 1)
    if broker.kind == "embedded":
        broker.create_topic(f"{topic}.dead-letters", 1)
    layout = Layout(channels=3, height=2, width=4, formats="jpeg,webp")
    label = ("label", b"3")
    records: list[Outgoing] = [
        (0, value, [("content-type", content_type), label]) for content_type, value in GOLDEN_PICTURES
    ]
    records += [(0, JPEG[:-5], [("content-type", b"image/jpeg"), label])]
    records += [(0, RGB_PNG, [("content-type", b"image/png"), label])]
    send(broker, topic, records)
    settings = settings_of(broker, topic, stop_after=len(records))
    with closing(ReaderProcess(settings, BATCH, layout, None)) as feed:
        seen = read_feed(feed, FeedLog(), ended)
    assert seen.labels == [3, 3, 3]
    assert seen.dead == {Reason.WRONG_SHAPE: 1, Reason.DAMAGED: 1, Reason.CONTENT_TYPE: 1}


def test_the_committed_position_can_be_read_with_kafkas_own_tools(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 2)
    send(broker, topic, sent(range(16), 2))
    group = f"group-{topic}"
    with closing(reader(broker, topic, group=group)) as feed:
        seen = read_feed(feed, FeedLog(), lambda seen: seen.received == 16)
        feed.commit(seen.filled[0].position)
        with KafkaConsumer(
            bootstrap_servers=broker.bootstrap_servers,
            api_version=broker.api_version,
            group_id=group,
            enable_auto_commit=False,
        ) as tool:
            until(
                lambda: [tool.committed(TopicPartition(topic, p)) for p in range(2)] == [4, 4],
                "the offsets are committed",
            )


def test_a_topic_that_is_created_later_is_read_then(broker: StreamBroker, topic: str) -> None:
    with closing(reader(broker, topic, stop_after=8)) as feed:
        missing = f"topic {topic} does not exist at {broker.bootstrap_servers}"
        seen = read_feed(feed, FeedLog(), lambda seen: any(missing in state.detail for state in seen.states))
        broker.create_topic(topic, 1)
        send(broker, topic, sent(range(8)))
        read_feed(feed, seen, ended)
    assert seen.ups == [False, True]
    assert seen.numbers == list(range(8))


def test_outages_of_the_broker_at_the_start_and_midway_lose_nothing(
    broker: StreamBroker, topic: str, switch: Switch
) -> None:
    broker.create_topic(topic, 2)
    send(broker, topic, sent(range(50), 2))
    switch.off()
    with closing(reader(broker, topic, stop_after=100)) as feed:
        seen = read_feed(feed, FeedLog(), lambda seen: seen.ups == [False])
        assert broker.bootstrap_servers in seen.states[0].detail
        switch.on()
        read_feed(feed, seen, lambda seen: seen.received == 48)
        switch.off()
        read_feed(feed, seen, lambda seen: seen.ups == [False, True, False])
        switch.on()
        send(broker, topic, sent(range(50, 100), 2))
        read_feed(feed, seen, ended)
    assert seen.ups == [False, True, False, True]
    assert seen.numbers == list(range(100))
    assert sum(filled.lost for filled in seen.filled) == 0


@pytest.mark.needs("embedded")
def test_the_reason_of_an_outage_is_told_anew_when_it_changes(
    embedded_broker: EmbeddedBroker, topic: str
) -> None:
    embedded_broker.down()
    with closing(reader(of_embedded(embedded_broker), topic)) as feed:
        seen = read_feed(feed, FeedLog(), lambda seen: seen.ups == [False])
        assert "does not exist" not in seen.states[-1].detail
        embedded_broker.up()
        read_feed(feed, seen, lambda seen: f"topic {topic} does not exist" in seen.states[-1].detail)
    assert seen.ups == [False]


def test_a_position_that_is_not_in_the_topic_stops_the_feed(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    send(broker, topic, sent(range(8)))
    with (
        closing(reader(broker, topic, Position({0: 9}))) as feed,
        pytest.raises(PositionLost, match=f"topic {topic}, partition 0: offset 9 is past the end 8"),
    ):
        read_feed(feed, FeedLog(), lambda seen: False)


def test_a_feeder_that_is_killed_is_reported(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    with closing(reader(broker, topic)) as feed:
        read_feed(feed, FeedLog(), lambda seen: seen.ups == [True])
        os.kill(feed._process.pid or 0, signal.SIGKILL)
        with pytest.raises(ReaderDied, match="-9"):
            read_feed(feed, FeedLog(), lambda seen: False)


def test_closing_leaves_no_pixel(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    send(broker, topic, sent(range(20)))
    feed = reader(broker, topic)
    with closing(feed):
        until(lambda: feed.resident == 20, "all are read")
    assert feed.resident == 0
    assert not feed._slots.x_SBCHW.any()
    assert feed._process.exitcode is not None


def test_a_reader_ends_by_itself_when_its_service_leaves(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    with closing(reader(broker, topic)) as feed:
        read_feed(feed, FeedLog(), lambda seen: seen.ups == [True])
        feed._connection.close()
        until(lambda: feed._process.exitcode == 0, "it ends")


@pytest.mark.alone
def test_closing_is_quick_during_an_outage(broker: StreamBroker, topic: str, switch: Switch) -> None:
    switch.off()
    with closing(reader(broker, topic)) as feed:
        read_feed(feed, FeedLog(), lambda seen: seen.ups == [False])
        began = time.monotonic()
    assert time.monotonic() - began < 10


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc of Linux")
def test_a_killed_service_leaves_no_feeder(broker: StreamBroker, topic: str) -> None:
    broker.create_topic(topic, 1)
    send(broker, topic, sent(range(20)))
    program = f"""
        import time
        from lethe.ingest.reader_process import ReaderProcess
        from lethe.settings import BatchSettings
        from lethe.stream.settings import StreamSettings
        from lethe.wire import Layout
        if __name__ == "__main__":
            feed = ReaderProcess(
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
    until(lambda: not is_alive(child), "it ends")


@pytest.mark.needs("kcat")
def test_a_png_sent_with_kcat_is_a_sample(broker: StreamBroker, topic: str, tmp_path: Path) -> None:
    broker.create_topic(topic, 1)
    picture = tmp_path / "three.png"
    Image.fromarray(sample(123456789).pixels[0]).save(picture)
    command = ["kcat", "-P", "-b", broker.bootstrap_servers, "-t", topic, "-p", "0"]
    headers = ["-H", "content-type=image/png", "-H", "label=3"]
    subprocess.run([*command, *headers, str(picture)], check=True, timeout=120)
    with closing(reader(broker, topic, stop_after=1)) as feed:
        seen = read_feed(feed, FeedLog(), ended)
    assert (seen.numbers, seen.labels) == ([123456789], [3])
