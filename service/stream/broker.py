"""Kafka as a `Source`.

Partitions are assigned, never subscribed: no rebalance can hand a half-learned partition to
somebody else. Nothing is deserialized here and no offset is committed automatically.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, cast
from uuid import UUID

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import (
    CorruptRecordError,
    NoError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
    for_code,
)
from kafka.structs import OffsetAndMetadata

from service.errors import BrokerUnavailable, InvalidSetting, PositionLost
from service.stream.client import open_client
from service.stream.cluster import ANSWER_SECONDS, kafka_errors, open_admin
from service.stream.settings import StreamSettings, client_options
from service.stream.source import Record

__all__ = ["KafkaSource"]


class KafkaSource:
    """The partitions of one topic that belong to this service.

    Raises BrokerUnavailable when the cluster cannot be reached or does not have the topic yet,
    InvalidSetting for options that kafka-python refuses and for a rank without partitions.
    """

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings
        # asked of an admin client: a consumer that is told its api_version may wait for ever
        self._partitions, self._topic_id = self._describe()
        self._paused: set[int] = set()
        with kafka_errors(settings):
            self._consumer = open_client(
                KafkaConsumer,
                **client_options(settings),
                group_id=settings.group,
                client_id=f"lethe-{settings.group}-{settings.rank}",
                enable_auto_commit=False,
                auto_offset_reset="none",
                max_poll_records=2000,
                max_partition_fetch_bytes=settings.fetch_bytes,
                fetch_max_wait_ms=100,
                allow_auto_create_topics=False,
                metrics_enabled=False,
                metadata_max_age_ms=int(settings.growth_seconds * 1000),
                bootstrap_timeout_ms=int(ANSWER_SECONDS * 1000),
            )
            self._consumer.assign(self._partitions)

    def _describe(self) -> tuple[list[TopicPartition], str | None]:
        settings = self._settings
        with open_admin(settings) as admin:
            (topic,) = admin.describe_topics([settings.topic])
            error = for_code(topic["error_code"])
            if error not in (NoError, UnknownTopicOrPartitionError):
                raise error(f"topic {settings.topic}")
        found = sorted(partition["partition_index"] for partition in topic["partitions"])
        if not found:
            raise BrokerUnavailable(f"{settings.bootstrap_servers} has no topic {settings.topic} (yet)")
        ours = [p for p in found if p % settings.world == settings.rank]
        if not ours:
            raise InvalidSetting(
                f"stream.rank {settings.rank} of stream.world {settings.world} gets no partition: "
                f"topic {settings.topic} has {len(found)}"
            )
        topic_id = topic.get("topic_id")  # brokers before 2.8, and the in-process one, know none
        known = topic_id is not None and UUID(str(topic_id)).int
        return [TopicPartition(settings.topic, p) for p in ours], str(topic_id) if known else None

    @property
    def partitions(self) -> Sequence[int]:
        """The partitions that are read, in ascending order."""
        return [p.partition for p in self._partitions]

    @property
    def topic_id(self) -> str | None:
        """The broker's identity of the topic, None where it has none."""
        return self._topic_id

    def seek(self, offsets: Mapping[int, int]) -> Mapping[int, int]:
        """Read from ``offsets`` on; without any from `StreamSettings.start`.

        A partition that is not among them was added since, and is read from its beginning.
        """
        starts = self._offsets_at("beginning")
        ends = self._offsets_at("end")
        fresh = starts if self._settings.start == "earliest" or offsets else ends
        in_force = {}
        for partition in self._partitions:
            p = partition.partition
            offset = offsets.get(p, fresh[p])
            if offset > ends[p] and not self._settings.accept_loss:
                raise PositionLost(
                    f"topic {self._settings.topic}, partition {p}: offset {offset} is past the "
                    f"end {ends[p]}; the topic was cut short, or deleted and created anew; --accept-loss "
                    "goes on at its end"
                )
            offset = min(offset, ends[p])
            self._consumer.seek(partition, max(offset, starts[p]))
            in_force[p] = offset
        gone = {p: (o, starts[p]) for p, o in in_force.items() if o < starts[p]}
        if gone and not self._settings.accept_loss:
            where = ", ".join(f"{o} to {start - 1} of partition {p}" for p, (o, start) in gone.items())
            raise PositionLost(
                f"topic {self._settings.topic}: {sum(start - o for o, start in gone.values())} samples are "
                f"gone, offsets {where}; --accept-loss goes on without them"
            )
        return in_force

    def poll(self, timeout: float, limit: int, full: Collection[int]) -> list[Record]:
        """Return up to ``limit`` records, in offset order within a partition, or none yet."""
        self._pause(full)
        self._take_up_parked()
        with kafka_errors(self._settings):
            try:
                chunks = self._consumer.poll(timeout_ms=int(timeout * 1000), max_records=limit)
            except OffsetOutOfRangeError:
                self.seek(self._positions())  # which knows by how much, and whether that matters
                return []
            except CorruptRecordError as error:
                raise PositionLost(
                    f"topic {self._settings.topic}: corrupt records at offset (by partition) "
                    f"{self._positions()}: {error}"
                ) from error
        return [record for chunk in chunks.values() for record in chunk]

    def _positions(self) -> dict[int, int]:
        return {p.partition: self._consumer.position(p, timeout_ms=0) for p in self._partitions}

    def _pause(self, full: Collection[int]) -> None:
        for partition in self._partitions:
            p = partition.partition
            if p in full and p not in self._paused:
                self._consumer.pause(partition)
                self._paused.add(p)
            elif p not in full and p in self._paused:
                self._consumer.resume(partition)
                self._paused.discard(p)

    def _take_up_parked(self) -> None:
        """Let kafka-python find what it put aside for a partition that was paused.

        3.0.12 looks for it only while it has no other records in hand, and does not let go of
        those that are used up: until the other partitions got new ones, it would wait for ever.
        """
        fetcher = self._consumer._fetcher
        if not fetcher._next_partition_records:
            fetcher._next_partition_records = None

    def grown(self) -> bool:
        """Tell whether the topic has got partitions for this service since it was opened."""
        with kafka_errors(self._settings):
            known = self._consumer.partitions_for_topic(self._settings.topic) or set()
        ours = {p for p in known if p % self._settings.world == self._settings.rank}
        return not ours <= set(self.partitions)

    def starts(self) -> Mapping[int, int]:
        """Ask the broker for the offset at which each partition's log begins."""
        return self._offsets_at("beginning")

    def ends(self) -> Mapping[int, int]:
        """Ask the broker for each partition's end."""
        return self._offsets_at("end")

    def known_ends(self) -> Mapping[int, int]:
        """Return the ends as of the last answer, without asking."""
        return {p.partition: self._consumer.highwater(p) or 0 for p in self._partitions}

    def _offsets_at(self, which: Literal["beginning", "end"]) -> dict[int, int]:
        ask = self._consumer.beginning_offsets if which == "beginning" else self._consumer.end_offsets
        with kafka_errors(self._settings):
            answer = ask(self._partitions, timeout_ms=int(ANSWER_SECONDS * 1000))
        return {p.partition: cast("int", answer[p]) for p in self._partitions}

    def commit(self, offsets: Mapping[int, int], notes: Mapping[int, str]) -> None:
        """Tell the broker what has been learned, for lag tools, with a note for other services."""
        commits = {
            TopicPartition(self._settings.topic, p): OffsetAndMetadata(o, notes.get(p, ""), -1)
            for p, o in offsets.items()
        }
        with kafka_errors(self._settings):
            self._consumer.commit(commits, timeout_ms=int(ANSWER_SECONDS * 1000))

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close(autocommit=False, timeout_ms=500)
