"""Records into a Kafka topic, each acknowledged once; the only import of kafka-python on this side."""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from types import TracebackType
from typing import Any, Final, Self

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError, TopicAlreadyExistsError

from producers.broker import Broker
from producers.records import Record
from producers.replay import LOOK_BACK, Tail, is_of
from service.errors import BrokerUnavailable, InvalidSetting
from service.stream.client import open_client

__all__ = ["Broker", "Publisher", "short_lived"]

DEFAULT_PARTITIONS: Final = 4
UNACKNOWLEDGED: Final = 10_000
"""How many records may wait for their acknowledgement; bounds the memory of a slow broker's client."""
BROKER_LIMIT: Final = 1_000_000
"""Bytes of a value above which a broker with Kafka's defaults takes it only if it compresses well."""
LARGEST_REQUEST: Final = 4 << 20
"""Bytes, before compression, above which this side refuses a record."""
BATCH_BYTES: Final = 128 << 10
LINGER_MS: Final = 10
POLL_MS: Final = 200
GROWTH: Final = 8
"""Of the part of a topic that is searched for a stream's last record, each time that it was not there."""
CLOSE_SECONDS: Final = 1
SMALLEST_SEGMENT: Final = 1 << 20
"""Bytes; Kafka 4 takes no smaller segments."""
SEGMENT_SECONDS: Final = 60.0


def short_lived(retention: float) -> dict[str, str]:
    """Return the configuration of a topic that bounds how long its records are on the broker's disk.

    A purge hides records at once, but their bytes go with their segment: so segments are small and
    short, and deleted soon. No record, learned or not, is served for longer than about ``retention``
    seconds: without that, the last segment of a topic that nobody writes to would stay for ever.
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

    ``partitions`` None takes a topic as it is and creates one with four; ``configs`` are for one that
    is created, see `short_lived`. A record that is too large
    for the broker, as a poisoned scenario wants some to be, is sent compressed; the others are not,
    because compressing them all would cost three quarters of the speed.

    Raises BrokerUnavailable, which names the address, from every method, after a bounded wait;
    InvalidSetting when the topic has another number of partitions, or cannot be created, and for
    an option that kafka-python does not have.
    """

    def __init__(
        self,
        broker: Broker,
        topic: str,
        partitions: int | None = None,
        replication_factor: int = 1,
        configs: Mapping[str, str] | None = None,
    ) -> None:
        self.topic = topic
        self.acknowledged = 0
        self._broker, self._configs = broker, dict(configs or {})
        self._waiting: deque[Any] = deque()
        with self._reached():
            self.partitions = self._ensure_topic(partitions, replication_factor)
            self._producer = self._new_producer(compression=None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, record: Record, partition: int) -> None:
        """Queue ``record``; whatever became of records queued before is checked on the way."""
        packed = record.value is not None and len(record.value) > BROKER_LIMIT
        if packed:
            self.flush()  # two producers do not wait for each other: the order would be lost
        with self._reached():
            producer = self._packer if packed else self._producer
            self._waiting.append(
                producer.send(self.topic, record.value, record.key, record.headers, partition)
            )
            while self._waiting and (
                packed or self._waiting[0].is_done or len(self._waiting) > UNACKNOWLEDGED
            ):
                self._acknowledge()

    def flush(self) -> None:
        """Return when every record queued is acknowledged."""
        with self._reached():
            self._producer.flush(timeout=4 * self._broker.timeout)
            while self._waiting:
                self._acknowledge()

    def close(self) -> None:
        """Free the connections; records not acknowledged by now may be lost."""
        self._producer.close(timeout=CLOSE_SECONDS)
        if "_packer" in vars(self):
            self._packer.close(timeout=CLOSE_SECONDS)

    @cached_property
    def _packer(self) -> Any:
        return self._new_producer(compression="gzip")

    def _new_producer(self, compression: str | None) -> Any:
        return open_client(
            KafkaProducer,
            **self._broker.options,
            acks="all",
            enable_idempotence=True,
            allow_auto_create_topics=False,
            batch_size=BATCH_BYTES,
            linger_ms=LINGER_MS,
            compression_type=compression,
            max_block_ms=self._broker.timeout_ms,
            max_request_size=LARGEST_REQUEST,
            request_timeout_ms=self._broker.timeout_ms,
            delivery_timeout_ms=4 * self._broker.timeout_ms,
            metrics_enabled=False,
        )

    def ends(self) -> list[int]:
        """Return each partition's next offset, as it is in the broker now."""
        with self._consumer() as consumer:
            ends = consumer.end_offsets(self._parts, timeout_ms=self._broker.timeout_ms)
            return [ends[part] for part in self._parts]

    def tails(self, run: str) -> list[Tail]:
        """Return where each partition ends, and the last record of ``run`` among its last `LOOK_BACK`."""
        with self._consumer() as consumer:
            wait = {"timeout_ms": self._broker.timeout_ms}
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
        """Read from where the consumer is to ``end``."""
        keys: list[bytes | None] = []
        deadline = time.monotonic() + self._broker.timeout
        while (position := consumer.position(part)) < end:
            if time.monotonic() > deadline:
                raise KafkaTimeoutError(f"the last records of {self.topic} could not be read")
            records = consumer.poll(timeout_ms=POLL_MS).get(part, [])
            keys += [record.key for record in records if record.offset < end]
            if consumer.position(part) > position:
                deadline = time.monotonic() + self._broker.timeout
        return keys

    @property
    def _parts(self) -> list[TopicPartition]:
        return [TopicPartition(self.topic, number) for number in range(self.partitions)]

    @contextmanager
    def _consumer(self) -> Iterator[Any]:
        with self._reached():
            consumer = open_client(
                KafkaConsumer,
                **self._broker.options,
                enable_auto_commit=False,
                request_timeout_ms=self._broker.timeout_ms,
            )
            try:
                yield consumer
            finally:
                consumer.close()

    def _ensure_topic(self, partitions: int | None, replication_factor: int) -> int:
        timeout_ms = self._broker.timeout_ms
        admin = open_client(KafkaAdminClient, **self._broker.options, request_timeout_ms=timeout_ms)
        try:
            if self.topic not in admin.list_topics():
                self._create(admin, partitions or DEFAULT_PARTITIONS, replication_factor)
            (described,) = admin.describe_topics([self.topic])
            found = len(described["partitions"])
        finally:
            admin.close()
        if partitions not in (None, found):
            raise InvalidSetting(f"partitions is {partitions}, and the topic {self.topic} has {found}")
        return found

    def _create(self, admin: Any, partitions: int, replication_factor: int) -> None:
        wanted = {
            "num_partitions": partitions,
            "replication_factor": replication_factor,
            "configs": self._configs,
        }
        try:
            admin.create_topics({self.topic: wanted}, self._broker.timeout_ms, wait_for_metadata=True)
        except TopicAlreadyExistsError:
            admin.wait_for_topics([self.topic])  # somebody else was quicker
        except KafkaTimeoutError:
            raise
        except KafkaError as error:
            raise InvalidSetting(
                f"the topic {self.topic} does not exist, and {self._broker.bootstrap_servers} does not let"
                f" it be created with {partitions} partitions, {replication_factor} replicas: {error}"
            ) from error

    def _acknowledge(self) -> None:
        self._waiting.popleft().get(timeout=4 * self._broker.timeout)
        self.acknowledged += 1

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except KafkaError as error:
            raise BrokerUnavailable(
                f"the broker at {self._broker.bootstrap_servers} does not serve topic {self.topic}: {error}"
            ) from error
