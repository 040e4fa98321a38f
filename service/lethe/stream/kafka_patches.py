"""Everything that Lethe needs of kafka-python 3.0.12 beyond its public interface, with the reason for each.

``tests/stream/test_kafka_patches.py`` runs upstream's code for each item and fails once upstream has
mended it. "No report known" means that no issue of dpkp/kafka-python about it was found.

Patches of the process, applied by `install` and listed in `PATCHES`:

- **Header names.** A header name that is not UTF-8 raises CorruptRecordError: the consumer never gets past
  its batch, although Kafka allows any bytes. The patch decodes such a name with replacement characters. No
  report known; for header values, dpkp/kafka-python#2242 leaves the encoding to the application.
- **Sockets of abandoned connections.** A client that is closed while it connects, or while it negotiates
  TLS, leaves the socket open. The patches close it. No report known; related: dpkp/kafka-python#3097.
- **TLS without a timeout.** A client waits without end for a server that accepts the connection and never
  answers. The patch limits the handshake. No report known; related: dpkp/kafka-python#3027.
- **Last words of a broker.** Data that arrives together with the end of the connection is dropped, such as
  the answer that the password is wrong. The patch delivers the data first. No report known; related:
  dpkp/kafka-python#2994, dpkp/kafka-python#2995.
- **Addresses in errors.** The error of a connection does not name its address, so a wrong
  ``advertised.listeners`` looks like a broker that does not answer. The patch records the last error of
  each address. No report known.

For single clients:

- **Constructors that fail** leave the client's thread and sockets behind, and retry until their timeout
  although the cluster has rejected the credentials. `build_client` closes what was opened and calls a check
  before each connection. No report known; dpkp/kafka-python#552 was about an earlier leak.
- **Producers with unsent records.** ``close(timeout)`` raises when the timeout passes, before it stops the
  sender's thread. `close_producer` stops it. No report known; related: dpkp/kafka-python#3108.
- **Commits of transactions** are waited for without a timeout: a producer whose broker is gone hangs in
  ``commit_transaction``. `begin_commit` starts a commit and returns its result. No report known.
- **Commit callbacks** run only within ``poll``, as in Kafka's own client. `run_commit_callbacks` runs
  those of a consumer that is not polled. No public way is known.
- **Fetched records of a paused partition** are retained (dpkp/kafka-python#2981), but looked for after
  ``resume`` only while no other records are at hand, and used-up ones count as such: without further
  records of other partitions they are never returned. `release_retained_records` drops the used-up ones.
  No report known.
- **Topic ids.** Fetches go by name, up to version 12 of the request: a topic that was deleted and created
  anew under the same name is read on at the old offset. From version 13 on (KIP-516, brokers since 3.1)
  the request holds the id, and the broker rejects that of another topic. `TopicFetches` uses it. No request
  for it known.
- **Offsets without a record.** For a consumer of committed records, markers of transactions and records of
  aborted ones (KIP-98, dpkp/kafka-python#2582) are passed over silently and cannot be distinguished from
  lost records. `TopicFetches` counts them. No request for it known.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from kafka.consumer.fetcher import Fetcher
from kafka.errors import (
    CorruptRecordError,
    FetchSessionTopicIdError,
    InconsistentTopicIdError,
    KafkaError,
    UnknownTopicIdError,
    UnknownTopicOrPartitionError,
)
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket
from kafka.net.manager import KafkaConnectionManager
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.record.default_records import DefaultRecordBatch

__all__ = [
    "PATCHES",
    "ConnectionFailure",
    "Patch",
    "TopicFetches",
    "begin_commit",
    "build_client",
    "close_producer",
    "connection_failures",
    "install",
    "known_topic_id",
    "release_retained_records",
    "run_commit_callbacks",
]

HANDSHAKE_SECONDS: Final = 5.0
"""Timeout for negotiating TLS."""
FETCH_BY_ID: Final = 13
"""The first version of the fetch request that has topic ids."""
OTHER_TOPIC: Final = frozenset(
    error.errno
    for error in (
        UnknownTopicOrPartitionError,
        UnknownTopicIdError,
        InconsistentTopicIdError,
        FetchSessionTopicIdError,
    )
)
"""Error codes of a broker whose topic is gone, or is another one of the same name."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A method of kafka-python and what replaces it."""

    owner: type
    name: str
    upstream: Callable[..., Any]
    replacement: Callable[..., Any]


@dataclass(frozen=True, slots=True)
class ConnectionFailure:
    """The last failed attempt to connect to ``address``; ``at`` is in seconds of the monotonic clock."""

    address: str
    at: float
    error: Exception


_failures: Final[dict[tuple[tuple[str, ...], str], ConnectionFailure]] = {}
"""By a cluster's bootstrap servers and the address."""


def connection_failures(bootstrap_servers: Sequence[str]) -> list[ConnectionFailure]:
    """Return the addresses of the cluster at ``bootstrap_servers`` whose last connection attempt failed."""
    asked = _addresses(bootstrap_servers)
    return [failure for (cluster, _), failure in _failures.copy().items() if cluster == asked]


def install() -> None:
    """Apply `PATCHES` to this process; applying them again changes nothing."""
    for patch in PATCHES:
        setattr(patch.owner, patch.name, patch.replacement)


_next_record: Final = DefaultRecordBatch.__next__
_sock_connect: Final = KafkaNetSocket.sock_connect
_handshake: Final = KafkaSSLTransport.handshake
_build_transport: Final = KafkaConnectionManager._build_transport
_sock_recv: Final = {kind: kind._sock_recv for kind in (KafkaTCPTransport, KafkaSSLTransport)}


def _next_record_with_any_header_name(batch: Any) -> Any:
    try:
        return _next_record(batch)
    except CorruptRecordError as error:
        if not isinstance(error.__context__, UnicodeDecodeError):
            raise
    upstream = batch._buffer
    batch._buffer = _LenientBuffer(upstream)
    try:
        return _next_record(batch)  # the same record again: a failure leaves the batch as it was
    finally:
        batch._buffer = upstream


class _LenientBuffer(bytearray):
    """The bytes of a batch, whose slices decode with replacement characters."""

    def __getitem__(self, where: Any) -> Any:
        part = super().__getitem__(where)
        return _LenientName(part) if isinstance(part, bytearray) else part


class _LenientName(bytearray):
    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)


async def _sock_connect_or_close(
    net_socket: Any, net: Any, sock: Any, sockaddr: Any, timeout_at: Any = None
) -> Any:
    try:
        return await _sock_connect(net_socket, net, sock, sockaddr, timeout_at=timeout_at)
    except BaseException:
        sock.close()
        raise


async def _handshake_or_close(transport: Any) -> None:
    net = transport._net
    transport._net = _LimitedWaits(net, time.monotonic() + HANDSHAKE_SECONDS)
    try:
        await _handshake(transport)
    except BaseException:
        transport._sock.close()
        raise
    finally:
        transport._net = net


class _LimitedWaits:
    """An event loop of kafka-python whose waits end at ``timeout_at``."""

    def __init__(self, net: Any, timeout_at: float) -> None:
        self._net, self._timeout_at = net, timeout_at

    def wait_read(self, sock: Any) -> Any:
        return self._net.wait_read(sock, timeout_at=self._timeout_at)

    def wait_write(self, sock: Any) -> Any:
        return self._net.wait_write(sock, timeout_at=self._timeout_at)


def _sock_recv_data_first(transport: Any) -> tuple[bytes, Exception | None]:
    data, error = _sock_recv[type(transport)](transport)
    return data, None if data else error  # the next call meets the error again


async def _build_transport_recorded(manager: Any, node: Any, timeout_at: Any = None) -> Any:
    address = f"{node.host}:{node.port}"
    key = (_addresses(manager.cluster.config["bootstrap_servers"]), address)
    try:
        transport = await _build_transport(manager, node, timeout_at=timeout_at)
    except Exception as error:
        _failures[key] = ConnectionFailure(address, time.monotonic(), error)
        raise
    _failures.pop(key, None)
    return transport


def _addresses(bootstrap_servers: Sequence[str] | str) -> tuple[str, ...]:
    servers = bootstrap_servers.split(",") if isinstance(bootstrap_servers, str) else bootstrap_servers
    return tuple(server.strip() for server in servers)


PATCHES: Final = (
    Patch(DefaultRecordBatch, "__next__", _next_record, _next_record_with_any_header_name),
    Patch(KafkaNetSocket, "sock_connect", _sock_connect, _sock_connect_or_close),
    Patch(KafkaSSLTransport, "handshake", _handshake, _handshake_or_close),
    *(Patch(kind, "_sock_recv", upstream, _sock_recv_data_first) for kind, upstream in _sock_recv.items()),
    Patch(KafkaConnectionManager, "_build_transport", _build_transport, _build_transport_recorded),
)


def build_client(
    kind: Callable[..., Any],
    options: dict[str, Any],
    connections: list[Any],
    before_connecting: Callable[[], None],
) -> Any:
    """Return ``kind(**options)``; close all that it opened if that fails.

    Adds the connections that are made meanwhile to ``connections``, and calls ``before_connecting``
    before each; what that raises ends the attempt.
    """
    opened: list[Any] = []

    def open_network(**config: Any) -> Any:
        network = KafkaNetClient(**config)
        get_connection = network._manager.get_connection

        def get_connection_checked(*args: Any, **kwargs: Any) -> Any:
            before_connecting()
            connections.append(get_connection(*args, **kwargs))
            return connections[-1]

        network._manager.get_connection = get_connection_checked
        opened.append(network)
        return network

    try:
        client = kind(**options, kafka_client=open_network)
    except BaseException:
        for network in opened:
            network.close()
        raise
    for network in opened:
        del network._manager.get_connection
    return client


def close_producer(producer: Any, seconds: float) -> None:
    """Close a producer within about ``seconds``; records not acknowledged by then are given up."""
    try:
        producer.close(timeout=seconds)
    except KafkaError:  # the caller holds the futures, which report what was not acknowledged
        producer._sender.force_close()
        producer._sender.join(seconds)


def begin_commit(producer: Any) -> Any:
    """Begin to commit the open transaction of a producer; return the result.

    That has ``is_done``, and ``wait(timeout_ms)``, which raises the error if the commit has failed. Raises
    kafka-python's errors.
    """
    result = producer._transaction_manager.begin_commit()
    producer._sender.wakeup()
    return result


def run_commit_callbacks(consumer: Any) -> None:
    """Call the callbacks of the asynchronous commits that were answered, on this thread."""
    consumer._coordinator._invoke_completed_offset_commit_callbacks()


def release_retained_records(consumer: Any) -> None:
    """Let the next poll return the records that were retained for a partition since resumed."""
    fetcher = consumer._fetcher
    if not fetcher._next_partition_records:
        fetcher._next_partition_records = None


def known_topic_id(consumer: Any, topic: str) -> UUID | None:
    """Return the id of ``topic`` in the consumer's last metadata, None if it has none."""
    found: UUID | None = consumer._client.cluster.topic_id(topic)
    return found if found is not None and found.int else None


class TopicFetches:
    """Follows the fetches of ``consumer``, which reads nothing but ``topic``.

    With ``topic_id`` every fetch is of that topic and no other. Responses are handled on kafka-python's
    thread, records on the caller's.
    """

    def __init__(self, consumer: Any, topic: str, topic_id: UUID | None) -> None:
        self.other_topic = False
        """Whether a response since this was last set to False says that the topic may be another one."""
        self.stable_ends: dict[int, int] = {}
        """By partition, the offset before which every transaction has ended, as of the last response."""
        self._skipped: dict[int, dict[int, int]] = {}
        self._topic, self._topic_id = topic, topic_id
        fetcher = consumer._fetcher
        self._create, self._handle = fetcher._create_fetch_requests, fetcher._handle_fetch_response
        fetcher._handle_fetch_response = self._handle_response
        fetcher.PartitionRecords = self._partition_records
        if topic_id is not None:
            fetcher._create_fetch_requests = self._create_requests

    def skipped(self, partition: int, first: int, until: int) -> int:
        """Return how many of the offsets ``first`` to ``until`` − 1 hold no record to be read.

        Forgets the offsets before ``until``: ask in ascending order.
        """
        known = self._skipped.get(partition, {})
        count = sum(max(0, min(end, until) - max(start, first)) for start, end in known.items())
        for start in [start for start, end in known.items() if end <= until]:
            del known[start]
        return count

    def clear_skipped(self) -> None:
        """Forget the offsets that were passed over, after a seek."""
        self._skipped.clear()

    def _skip(self, partition: int, batch: Any) -> None:
        self._skipped.setdefault(partition, {})[batch.base_offset] = batch.next_offset

    def _create_requests(self) -> Any:
        requests = self._create()
        for request, _ in requests.values():
            request._max_version = FETCH_BY_ID
            for topic in [*request.topics, *request.forgotten_topics_data]:
                topic.topic_id = self._topic_id
        return requests

    def _handle_response(self, node_id: Any, fetch_offsets: Any, send_time: float, response: Any) -> None:
        if response.error_code in OTHER_TOPIC:
            self.other_topic = True
        for topic in response.responses:
            if response.API_VERSION >= FETCH_BY_ID:
                topic.topic = self._topic  # the only one that is fetched
            for partition in topic.partitions:
                if partition.error_code in OTHER_TOPIC:
                    self.other_topic = True
                stable = partition.last_stable_offset
                end = partition.high_watermark if stable is None or stable < 0 else stable
                if not partition.error_code and end >= 0:
                    self.stable_ends[partition.partition_index] = end
        self._handle(node_id, fetch_offsets, send_time, response)

    def _partition_records(
        self, fetch_offset: int, tp: Any, records: Any, **options: Any
    ) -> "_PartitionRecords":
        return _PartitionRecords(self, fetch_offset, tp, records, **options)


class _PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc] # kafka-python has no types
    """kafka-python's own, reporting the batches of aborted transactions."""

    def __init__(
        self, fetches: TopicFetches, fetch_offset: int, tp: Any, records: Any, **options: Any
    ) -> None:
        self._fetches = fetches
        super().__init__(fetch_offset, tp, _Batches(records, fetches, tp.partition), **options)

    def _is_batch_aborted(self, batch: Any) -> bool:
        aborted = bool(super()._is_batch_aborted(batch))
        if aborted:
            self._fetches._skip(self.topic_partition.partition, batch)
        return aborted


class _Batches:
    """The batches of a response, reporting those that hold markers of transactions as they are read."""

    def __init__(self, records: Any, fetches: TopicFetches, partition: int) -> None:
        self._records, self._fetches, self._partition = records, fetches, partition

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def next_batch(self) -> Any:
        batch = self._records.next_batch()
        if batch is not None and batch.magic >= 2 and batch.is_control_batch:
            self._fetches._skip(self._partition, batch)
        return batch
