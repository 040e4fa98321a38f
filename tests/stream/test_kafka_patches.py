"""Each patch of kafka-python answers a defect that upstream still has, and mends it.

A test with ``upstream`` in its name runs kafka-python's own code. When it fails, upstream has mended the
defect: remove the patch.
"""

import socket
import ssl
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError, KafkaConnectionError, KafkaError, KafkaTimeoutError
from kafka.net.inet import KafkaNetSocket
from kafka.net.manager import KafkaConnectionManager
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from lethe.stream import kafka_patches
from lethe.stream.embedded_broker import API_VERSION, EmbeddedBroker
from lethe.stream.kafka_patches import PATCHES, TopicFetches
from tests.support.waiting import until

PARTITION = TopicPartition("images", 0)


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    for patch in PATCHES:
        monkeypatch.setattr(patch.owner, patch.name, patch.upstream)


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> None:
    for patch in PATCHES:
        monkeypatch.setattr(patch.owner, patch.name, patch.replacement)


class EventLoop:
    """Stands in for kafka-python's event loop: a coroutine that waits is resumed by the test."""

    def __init__(self) -> None:
        self.timeouts: list[float | None] = []
        """Until when each wait lasts; None is without end."""

    def wait_read(self, _: object, timeout_at: float | None = None) -> Coroutine[None, None, None]:
        self.timeouts.append(timeout_at)
        return self._wait()

    wait_write = wait_read

    @staticmethod
    async def _wait() -> None:
        await _suspend()

    def unregister_event(self, *_: object) -> None:
        """Nothing is registered."""


@types.coroutine
def _suspend() -> Generator[None, Any, None]:
    yield


def finish(coroutine: Coroutine[None, Any, object]) -> None:
    """Resume ``coroutine`` until it ends."""
    with closing(coroutine):
        while True:
            try:
                coroutine.send(None)
            except StopIteration:
                return
            time.sleep(0.01)


def batch(header: bytes = b"name", producer: int = -1, control: bool = False) -> bytes:
    """A batch with one record at offset 0 whose header has this name."""
    placeholder = "h" * len(header)
    builder = DefaultRecordBatchBuilder(2, 0, producer != -1, producer, 0, 0, 1 << 16)
    builder.append(0, timestamp=0, key=b"key", value=b"value", headers=[(placeholder, b"")])
    data = bytearray(builder.build())
    if control:
        data[DefaultRecordBatch.ATTRIBUTES_OFFSET + 1] |= DefaultRecordBatch.CONTROL_MASK
    return bytes(data).replace(placeholder.encode(), header)


@pytest.mark.usefixtures("upstream")
def test_a_header_name_that_is_not_utf_8_makes_its_batch_corrupt_upstream() -> None:
    with pytest.raises(CorruptRecordError):
        list(DefaultRecordBatch(batch(b"\xff\xfe")))


@pytest.mark.usefixtures("patched")
def test_a_header_name_that_is_not_utf_8_is_read() -> None:
    (record,) = DefaultRecordBatch(batch(b"\xff\xfe"))
    assert record.headers == [("��", b"")]


def abandoned_connect() -> socket.socket:
    """The socket of a connection that was given up while it was made."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        abandoned = socket.socket()
        abandoned.setblocking(False)
        connecting = KafkaNetSocket().sock_connect(EventLoop(), abandoned, server.getsockname())
        connecting.send(None)
        connecting.close()
    return abandoned


def abandoned_handshake() -> socket.socket:
    """The socket of a connection that was given up while TLS was negotiated."""
    here, there = socket.socketpair()
    here.setblocking(False)
    context = ssl.create_default_context()
    transport = KafkaSSLTransport(EventLoop(), here, host="kafka", ssl_context=context)
    shaking = transport.handshake()
    shaking.send(None)
    abandoned: socket.socket = transport._sock
    shaking.close()
    there.close()
    return abandoned


@pytest.mark.usefixtures("upstream")
@pytest.mark.parametrize("abandon", [abandoned_connect, abandoned_handshake])
def test_an_abandoned_connection_stays_open_upstream(abandon: Callable[[], socket.socket]) -> None:
    with abandon() as abandoned:
        assert abandoned.fileno() != -1


@pytest.mark.usefixtures("patched")
@pytest.mark.parametrize("abandon", [abandoned_connect, abandoned_handshake])
def test_an_abandoned_connection_is_closed(abandon: Callable[[], socket.socket]) -> None:
    assert abandon().fileno() == -1


def handshake_timeouts() -> list[float | None]:
    here, there = socket.socketpair()
    here.setblocking(False)
    loop = EventLoop()
    transport = KafkaSSLTransport(loop, here, host="kafka", ssl_context=ssl.create_default_context())
    with closing(transport.handshake()) as shaking:
        shaking.send(None)
    there.close()
    transport._sock.close()
    return loop.timeouts


@pytest.mark.usefixtures("upstream")
def test_negotiating_tls_has_no_timeout_upstream() -> None:
    assert handshake_timeouts() == [None]


@pytest.mark.usefixtures("patched")
def test_negotiating_tls_has_a_timeout() -> None:
    (timeout,) = handshake_timeouts()
    assert isinstance(timeout, float)


class Received:
    """Stands in for a connection: keeps what its transport delivers."""

    def __init__(self) -> None:
        self.data = b""
        self.error: Exception | None = None
        self._sensors = None

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, error: Exception | None) -> None:
        self.error = error


def last_words() -> Received:
    """What is delivered of an answer that arrives together with the end of the connection."""
    here, there = socket.socketpair()
    here.setblocking(False)
    there.sendall(b"wrong password")
    there.close()
    received, transport = Received(), KafkaTCPTransport(EventLoop(), here)
    transport.set_protocol(received)
    transport._read = True
    finish(transport._read_from_sock())
    assert isinstance(received.error, KafkaConnectionError)
    return received


@pytest.mark.usefixtures("upstream")
def test_an_answer_just_before_the_end_is_dropped_upstream() -> None:
    assert last_words().data == b""


@pytest.mark.usefixtures("patched")
def test_an_answer_just_before_the_end_is_delivered() -> None:
    assert last_words().data == b"wrong password"


def failed_connection(port: int) -> KafkaError:
    """The error of a connection to a port without a listener."""
    config = {"bootstrap_servers": ["kafka:9092"], "socket_options": [], "proxy_url": None}
    manager = SimpleNamespace(
        _net=EventLoop(), config=config, ssl_enabled=False, cluster=SimpleNamespace(config=config)
    )
    node = SimpleNamespace(host="127.0.0.1", port=port)
    with pytest.raises(KafkaError) as failed:
        finish(KafkaConnectionManager._build_transport(manager, node))
    error: KafkaError = failed.value
    return error


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.mark.usefixtures("upstream")
def test_the_error_of_a_connection_does_not_name_its_port_upstream(closed_port: int) -> None:
    assert str(closed_port) not in str(failed_connection(closed_port))


@pytest.mark.usefixtures("patched")
def test_the_error_of_a_connection_is_recorded_with_its_address(closed_port: int) -> None:
    error = failed_connection(closed_port)
    failures = kafka_patches.connection_failures(["kafka:9092"])
    assert [f.error for f in failures if f.address == f"127.0.0.1:{closed_port}"] == [error]


LEAK = """
import sys, threading
from kafka import KafkaConsumer
from kafka.errors import KafkaError
{open_client}
try:
    open_client(KafkaConsumer, bootstrap_servers="127.0.0.1:" + sys.argv[1], bootstrap_timeout_ms=50)
except KafkaError:
    print(threading.active_count())
"""


@pytest.mark.parametrize(
    ("open_client", "threads"),
    [
        ("open_client = lambda kind, **options: kind(**options)", 2),
        ("from lethe.stream.connection import open_client", 1),
    ],
    ids=["upstream", "patched"],
)
def test_a_constructor_that_fails_leaves_a_thread_upstream(
    open_client: str, threads: int, closed_port: int
) -> None:
    program = LEAK.format(open_client=open_client)
    command = [sys.executable, "-c", program, str(closed_port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) == threads


def stuck_producer() -> Any:
    """A producer with a record that no broker will acknowledge."""
    with EmbeddedBroker() as broker:
        broker.create_topic("images", 1)
        producer = KafkaProducer(
            bootstrap_servers=broker.bootstrap_servers, api_version=API_VERSION, linger_ms=60_000
        )
        producer.partitions_for("images")
        producer.send("images", b"value")
    return producer


@pytest.mark.needs("embedded")
def test_a_producer_with_unsent_records_keeps_its_thread_upstream() -> None:
    producer = stuck_producer()
    with pytest.raises(KafkaTimeoutError):
        producer.close(timeout=0.2)
    assert producer._sender.is_alive()
    kafka_patches.close_producer(producer, 5)


@pytest.mark.needs("embedded")
def test_a_producer_with_unsent_records_is_closed_in_time() -> None:
    producer = stuck_producer()
    kafka_patches.close_producer(producer, 2)
    until(lambda: not producer._sender.is_alive(), "the sender's thread ends")


@pytest.fixture
def consumer(embedded_broker: EmbeddedBroker) -> Iterator[Any]:
    embedded_broker.create_topic("images", 1)
    with closing(
        KafkaConsumer(
            bootstrap_servers=embedded_broker.bootstrap_servers,
            api_version=API_VERSION,
            group_id="lethe",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
    ) as consumer:
        consumer.assign([PARTITION])
        yield consumer


def test_commit_callbacks_wait_for_a_poll_upstream_and_can_be_run_without_one(consumer: Any) -> None:
    consumer.poll(timeout_ms=200)
    called = threading.Event()
    consumer.commit_async(callback=lambda *_: called.set())
    until(lambda: consumer._coordinator.completed_offset_commits, "the commit is answered")
    assert not called.wait(0.2)
    kafka_patches.run_commit_callbacks(consumer)
    assert called.is_set()


def partition_records(*batches: bytes) -> Any:
    return Fetcher.PartitionRecords(0, PARTITION, in_order(*batches), check_crcs=False)


def in_order(*batches: bytes) -> MemoryRecords:
    """The batches of a response, each at the offset of its number."""
    return MemoryRecords(b"".join(nth.to_bytes(8, "big") + part[8:] for nth, part in enumerate(batches)))


def test_retained_records_of_a_resumed_partition_are_not_found_upstream_beside_used_up_ones(
    consumer: Any,
) -> None:
    fetcher, used_up = consumer._fetcher, partition_records(batch())
    consumer.seek(PARTITION, 0)
    used_up.drain()
    fetcher._next_partition_records = used_up
    fetcher._paused_partition_records = {PARTITION: partition_records(batch())}
    assert fetcher.fetch_records(update_offsets=False)[0] == {}
    kafka_patches.release_retained_records(consumer)
    records, _ = fetcher.fetch_records(update_offsets=False)
    assert [record.value for record in records[PARTITION]] == [b"value"]


def test_fetches_go_by_name_upstream(consumer: Any) -> None:
    create = consumer._fetcher._create_fetch_requests
    versions: list[int] = []

    def create_noted() -> Any:
        requests = create()
        versions.extend(request._max_version for request, _ in requests.values())
        return requests

    consumer._fetcher._create_fetch_requests = create_noted
    until(lambda: consumer.poll(timeout_ms=100) or versions, "a fetch is made")
    assert max(versions) < kafka_patches.FETCH_BY_ID


def test_markers_of_transactions_are_passed_over_silently_upstream_and_counted(consumer: Any) -> None:
    batches = (batch(), batch(producer=7, control=True), batch())
    assert [record.offset for record in partition_records(*batches).take()] == [0, 2]
    fetches = TopicFetches(consumer, "images", None)
    counted = consumer._fetcher.PartitionRecords(0, PARTITION, in_order(*batches), check_crcs=False)
    assert [record.offset for record in counted.take()] == [0, 2]
    assert fetches.skipped(0, 0, 3) == 1
