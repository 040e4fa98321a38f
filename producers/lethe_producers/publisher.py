"""Publishes records to a Kafka topic; the only module of the producers that imports kafka-python."""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from types import TracebackType
from typing import Any, Final, Self

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import (
    AuthorizationError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)

from lethe.errors import BrokerUnavailable, InvalidSetting, LetheError
from lethe.stream.admin import create_if_missing
from lethe.stream.broker_errors import describe_timeout, root_cause, unreachable_listener
from lethe.stream.connection import Cluster, open_client
from lethe.stream.kafka_patches import close_producer
from lethe_producers.records import Record
from lethe_producers.replay import LOOK_BACK, Tail, is_of

__all__ = ["Publisher", "short_lived"]

DEFAULT_PARTITIONS: Final = 4
UNACKNOWLEDGED: Final = 10_000
"""Limit of records without an acknowledgement; bounds the memory that a slow broker costs."""
BROKER_LIMIT: Final = 1_000_000
"""Size of a value, in bytes, above which a broker with Kafka's defaults accepts it only compressed."""
LARGEST_REQUEST: Final = 4 << 20
"""Size of a record before compression, in bytes, above which kafka-python rejects it."""
BATCH_BYTES: Final = 128 << 10
LINGER_MS: Final = 10
POLL_MS: Final = 200
GROWTH: Final = 8
"""Factor by which the search for a stream's last record grows with each step back."""
CLOSE_SECONDS: Final = 1
LOOK_SECONDS: Final = 3.0
"""Timeout for asking the cluster whether the topic still exists."""
SMALLEST_SEGMENT: Final = 1 << 20
"""In bytes; the minimum of Kafka 4."""
SEGMENT_SECONDS: Final = 60.0


def short_lived(retention: float) -> dict[str, str]:
    """Return a topic configuration that bounds how long records stay on the broker's disk.

    A purge hides records at once, but their bytes are deleted with their segment: so segments are small,
    short and deleted soon. No record, learned or not, is served for longer than about ``retention``
    seconds: without that limit, the last segment of an idle topic would never be deleted.
    """
    return {
        "cleanup.policy": "delete",
        "segment.bytes": str(SMALLEST_SEGMENT),
        "segment.ms": str(round(1000 * min(retention, SEGMENT_SECONDS))),
        "retention.ms": str(round(1000 * retention)),
        "file.delete.delay.ms": "1000",
    }


class Publisher:
    """An idempotent producer for one topic, which is created when it is missing.

    ``partitions`` None accepts any number, and creates a topic with four; ``configs`` apply to a topic
    that is created, see `short_lived`. A record that is too large for the broker, as in a poisoned
    scenario, is sent compressed; the others are not, because that would cost three quarters of the
    speed.

    Every method raises BrokerUnavailable, which names the address, after a bounded wait, and
    InvalidSetting when the topic has another number of partitions, cannot be created, or does not accept
    records of this size or of this user.
    """

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        partitions: int | None = None,
        replication_factor: int = 1,
        configs: Mapping[str, str] | None = None,
    ) -> None:
        self.topic, self._opened, self._looked_at = topic, False, 0.0
        self.created = False
        """Whether the topic was missing."""
        self.acknowledged = 0
        self._cluster = cluster
        self._waiting: deque[tuple[float, Any]] = deque()
        """When each record without an acknowledgement was queued, and its future."""
        with self._reached():
            self.partitions = self._ensure_topic(partitions, replication_factor, configs)
            self._producer = self._new_producer(compression=None)
        self._opened = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, record: Record, partition: int) -> None:
        """Queue ``record``; also raise the error of an earlier record that failed."""
        packed = record.value is not None and len(record.value) > BROKER_LIMIT
        if packed:
            self.flush()  # the two producers are independent: without this the order would be lost
        with self._reached():
            producer = self._packer if packed else self._producer
            queued = producer.send(self.topic, record.value, record.key, record.headers, partition)
            self._waiting.append((time.monotonic(), queued))
            while self._waiting and (
                packed or self._waiting[0][1].is_done or len(self._waiting) > UNACKNOWLEDGED
            ):
                self._acknowledge()
            if self._waiting:
                self._look_if_late(self._waiting[0][0])

    def flush(self, seconds: float | None = None) -> None:
        """Return when every record queued is acknowledged; wait ``seconds`` for each at most."""
        with self._reached():
            while self._waiting:
                self._acknowledge(seconds)

    def close(self) -> None:
        """Close the connections; records that are not acknowledged may be lost."""
        close_producer(self._producer, CLOSE_SECONDS)
        if "_packer" in vars(self):
            close_producer(self._packer, CLOSE_SECONDS)

    @cached_property
    def _packer(self) -> Any:
        return self._new_producer(compression="gzip")

    def _new_producer(self, compression: str | None) -> Any:
        return open_client(
            KafkaProducer,
            **self._cluster.options,
            acks="all",
            enable_idempotence=True,
            allow_auto_create_topics=False,
            batch_size=BATCH_BYTES,
            linger_ms=LINGER_MS,
            compression_type=compression,
            max_block_ms=self._cluster.timeout_ms,
            max_request_size=LARGEST_REQUEST,
            request_timeout_ms=self._cluster.timeout_ms,
            delivery_timeout_ms=4 * self._cluster.timeout_ms,
            metrics_enabled=False,
        )

    def ends(self) -> list[int]:
        """Request the next offset of each partition."""
        with self._consumer() as consumer:
            ends = consumer.end_offsets(self._parts, timeout_ms=self._cluster.timeout_ms)
            return [ends[part] for part in self._parts]

    def tails(self, run: str) -> list[Tail]:
        """Return where each partition ends, and the last record of ``run`` among its last `LOOK_BACK`."""
        with self._consumer() as consumer:
            wait = {"timeout_ms": self._cluster.timeout_ms}
            ends = consumer.end_offsets(self._parts, **wait)
            starts = consumer.beginning_offsets(self._parts, **wait)
            return [
                Tail(ends[part], self._last_key(consumer, part, starts[part], ends[part], run))
                for part in self._parts
            ]

    def _last_key(self, consumer: Any, part: TopicPartition, start: int, end: int, run: str) -> bytes | None:
        consumer.assign([part])
        oldest, depth = max(start, end - LOOK_BACK), 1
        while end > oldest:
            begin = max(oldest, end - depth)
            consumer.seek(part, begin)
            keys = [key for key in self._keys(consumer, part, end) if is_of(run, key)]
            if keys:
                return keys[-1]
            end, depth = begin, depth * GROWTH
        return None

    def _keys(self, consumer: Any, part: TopicPartition, end: int) -> list[bytes | None]:
        """Return the keys from the consumer's position to ``end``."""
        keys: list[bytes | None] = []
        deadline = time.monotonic() + self._cluster.timeout
        while (position := consumer.position(part)) < end:
            if time.monotonic() > deadline:
                raise KafkaTimeoutError(f"the last records of {self.topic} could not be read")
            records = consumer.poll(timeout_ms=POLL_MS).get(part, [])
            keys += [record.key for record in records if record.offset < end]
            if consumer.position(part) > position:
                deadline = time.monotonic() + self._cluster.timeout
        return keys

    @property
    def _parts(self) -> list[TopicPartition]:
        return [TopicPartition(self.topic, number) for number in range(self.partitions)]

    @contextmanager
    def _consumer(self) -> Iterator[Any]:
        with self._reached():
            consumer = open_client(
                KafkaConsumer,
                **self._cluster.options,
                enable_auto_commit=False,
                request_timeout_ms=self._cluster.timeout_ms,
            )
            try:
                yield consumer
            finally:
                consumer.close()

    def _ensure_topic(
        self, partitions: int | None, replication_factor: int, configs: Mapping[str, str] | None
    ) -> int:
        options = self._cluster.options | {"request_timeout_ms": self._cluster.timeout_ms}
        with closing(open_client(KafkaAdminClient, **options)) as admin:
            wanted = partitions or DEFAULT_PARTITIONS
            self.created = create_if_missing(
                admin, self._cluster, self.topic, wanted, replication_factor, configs
            )
            (described,) = admin.describe_topics([self.topic])
        found = len(described["partitions"])
        if partitions not in (None, found):
            raise InvalidSetting(f"partitions is {partitions}, and topic {self.topic} has {found}")
        return found

    def _acknowledge(self, seconds: float | None = None) -> None:
        at, queued = self._waiting.popleft()
        deadline = time.monotonic() + (4 * self._cluster.timeout if seconds is None else seconds)
        while not queued.is_done and (left := deadline - time.monotonic()) > self._cluster.timeout:
            with suppress(KafkaTimeoutError):
                queued.get(timeout=min(left, self._cluster.timeout))
            if not queued.is_done:
                self._look_if_late(at)
        queued.get(timeout=max(0.0, deadline - time.monotonic()))
        self.acknowledged += 1

    def _look_if_late(self, queued_at: float) -> None:
        """Check from time to time, while nothing is acknowledged, that the topic still exists."""
        now = time.monotonic()
        if now - max(queued_at, self._looked_at) > self._cluster.timeout:
            self._looked_at = now
            if self._is_gone():
                raise UnknownTopicOrPartitionError(self.topic)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Map kafka-python's errors to Lethe's, which name the address or topic, the cause and the remedy."""
        try:
            yield
        except KafkaError as error:
            raise self._error(root_cause(error)) from error

    def _error(self, error: BaseException) -> BrokerUnavailable | InvalidSetting:
        where = f"the broker at {self._cluster.bootstrap_servers}"
        if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
            return InvalidSetting(
                f"topic {self.topic} at {self._cluster.bootstrap_servers} rejects a record of this size "
                f"({type(error).__name__}): raise its max.message.bytes, or send smaller images"
            )
        if isinstance(error, AuthorizationError):
            return InvalidSetting(
                f"{where} does not let this user write to topic {self.topic} ({type(error).__name__}): "
                "grant it that right, or name another user in security"
            )
        servers = self._cluster.servers
        if advertised := unreachable_listener(servers):
            return BrokerUnavailable(f"{where} {advertised}")
        if isinstance(error, UnknownTopicOrPartitionError) or self._is_gone():
            return BrokerUnavailable(
                f"topic {self.topic} does not exist at {self._cluster.bootstrap_servers} any more: it was "
                "deleted; the same command without --resume creates it anew"
            )
        later = "; once it does, the same command with --resume sends the rest" if self._opened else ""
        return BrokerUnavailable(
            f"{where} does not serve topic {self.topic}: {describe_timeout(error, servers)}{later}"
        )

    def _is_gone(self) -> bool:
        """Return whether the cluster answers and does not have the topic any more."""
        if not self._opened:
            return False
        patience = int(1000 * min(LOOK_SECONDS, self._cluster.timeout))
        options = self._cluster.options | {"bootstrap_timeout_ms": patience, "request_timeout_ms": patience}
        try:
            with closing(open_client(KafkaAdminClient, **options)) as admin:
                return self.topic not in admin.list_topics()
        except (KafkaError, LetheError):
            return False  # it does not answer
