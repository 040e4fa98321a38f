"""Kafka as a `Source`.

Partitions are assigned, never subscribed: no rebalance can move a partition that is being learned to
another consumer. Nothing is deserialized here and no offset is committed automatically.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal, cast
from uuid import UUID

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import (
    CorruptRecordError,
    LogTruncationError,
    NoError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
    for_code,
)

from lethe.errors import BrokerUnavailable, InvalidSetting, PositionLost, TopicReplaced
from lethe.stream.admin import open_admin
from lethe.stream.broker_errors import kafka_errors, missing_topic
from lethe.stream.commits import OffsetCommits
from lethe.stream.connection import ANSWER_SECONDS, Cluster, open_client
from lethe.stream.kafka_patches import TopicFetches, known_topic_id, release_retained_records
from lethe.stream.settings import StreamSettings
from lethe.stream.source import Record

__all__ = ["KafkaSource"]

CLOSE_SECONDS: Final = 0.3
"""The longest wait for the last commit when the source is closed."""


class KafkaSource:
    """The partitions of one topic that belong to this service.

    Raises BrokerUnavailable when the cluster cannot be reached or does not have the topic yet,
    InvalidSetting for options that kafka-python rejects and for a rank without partitions.
    """

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings
        # by an admin client: a consumer with a fixed api_version may wait without end
        self._partitions, self._topic_id = self._describe()
        self.commits = OffsetCommits(settings)
        self._paused: set[int] = set()
        with kafka_errors(settings):
            self._consumer = open_client(
                KafkaConsumer,
                **Cluster.of(settings).options,
                group_id=None,  # see `OffsetCommits`
                client_id=f"lethe-{settings.group}-{settings.rank}",
                enable_auto_commit=False,
                isolation_level=settings.isolation,
                auto_offset_reset="none",
                max_poll_records=2000,
                max_partition_fetch_bytes=settings.fetch_bytes,
                fetch_max_wait_ms=100,
                allow_auto_create_topics=False,
                metrics_enabled=False,
                metadata_max_age_ms=int(settings.growth_seconds * 1000),
            )
            self._consumer.assign(self._partitions)
        topic_id = None if self._topic_id is None else UUID(self._topic_id)
        self._fetches = TopicFetches(self._consumer, settings.topic, topic_id)

    def _describe(self) -> tuple[list[TopicPartition], str | None]:
        settings = self._settings
        with open_admin(settings) as admin:
            (topic,) = admin.describe_topics([settings.topic])
            error = for_code(topic["error_code"])
            if error not in (NoError, UnknownTopicOrPartitionError):
                raise error(f"topic {settings.topic}")
        found = sorted(partition["partition_index"] for partition in topic["partitions"])
        if not found:
            raise BrokerUnavailable(missing_topic(settings, settings.topic))
        ours = [p for p in found if p % settings.world == settings.rank]
        if not ours:
            raise InvalidSetting(
                f"stream.rank {settings.rank} of stream.world {settings.world} gets no partition: "
                f"topic {settings.topic} has {len(found)}"
            )
        topic_id = topic.get("topic_id")  # absent in brokers before 2.8 and the embedded one
        known = topic_id is not None and UUID(str(topic_id)).int
        return [TopicPartition(settings.topic, p) for p in ours], str(topic_id) if known else None

    @property
    def partitions(self) -> Sequence[int]:
        """The partitions that are read, in ascending order."""
        return [p.partition for p in self._partitions]

    @property
    def topic_id(self) -> str | None:
        """The broker's id of the topic, None if it has none."""
        return self._topic_id

    def seek(self, offsets: Mapping[int, int]) -> Mapping[int, int]:
        """Read from ``offsets`` on; without any, from `StreamSettings.start`.

        A partition that is not among them was added later and is read from its beginning.
        """
        self._fetches.clear_skipped()
        starts = self._offsets_at("beginning")
        ends = self._offsets_at("end")
        if any(not starts[p] <= offset <= ends[p] for p, offset in offsets.items() if p in ends):
            self.verify()  # the offsets may be another topic's
        fresh = starts if self._settings.start == "earliest" or offsets else ends
        in_force = {}
        for partition in self._partitions:
            p = partition.partition
            offset = offsets.get(p, fresh[p])
            if offset > ends[p] and not self._settings.accept_loss:
                raise PositionLost(
                    f"topic {self._settings.topic}, partition {p}: offset {offset} is past the "
                    f"end {ends[p]}; the topic was truncated, or deleted and created anew; --accept-loss "
                    "continues at its end"
                )
            offset = min(offset, ends[p])
            self._consumer.seek(partition, max(offset, starts[p]))
            in_force[p] = offset
        gone = {p: (o, starts[p]) for p, o in in_force.items() if o < starts[p]}
        if gone and not self._settings.accept_loss:
            where = ", ".join(f"{o} to {start - 1} of partition {p}" for p, (o, start) in gone.items())
            raise PositionLost(
                f"topic {self._settings.topic}: {sum(start - o for o, start in gone.values())} samples are "
                f"gone, offsets {where}; --accept-loss continues without them"
            )
        return in_force

    def poll(self, timeout: float, limit: int, full: Collection[int]) -> list[Record]:
        """Return up to ``limit`` records, in offset order within a partition, or none yet."""
        self._pause(full)
        release_retained_records(self._consumer)
        with kafka_errors(self._settings):
            try:
                chunks = self._consumer.poll(timeout_ms=int(timeout * 1000), max_records=limit)
            except OffsetOutOfRangeError:
                self.seek(self.reached())  # finds out how many records are gone
                return []
            except LogTruncationError as error:
                self.verify()
                if not self._settings.accept_loss:
                    raise PositionLost(
                        f"topic {self._settings.topic}: its log was truncated before offset (by partition) "
                        f"{self.reached()}, as after an unclean leader election: records that were "
                        "learned are no longer in it; --accept-loss continues"
                    ) from error
                raise BrokerUnavailable(f"topic {self._settings.topic}: its log was truncated") from error
            except CorruptRecordError as error:
                raise PositionLost(
                    f"topic {self._settings.topic}: corrupt records at offset (by partition) "
                    f"{self.reached()}: {error}"
                ) from error
        if self._may_be_another_topic():
            self.verify()
        return [record for chunk in chunks.values() for record in chunk]

    def reached(self) -> Mapping[int, int]:
        """Return the first offset of each partition that has not been read."""
        return {p.partition: self._consumer.position(p, timeout_ms=0) for p in self._partitions}

    def skipped(self, partition: int, first: int, until: int) -> int:
        """Return how many of these offsets, which `poll` has passed, hold no record."""
        return self._fetches.skipped(partition, first, until)

    def verify(self) -> None:
        """Check with the broker that this is the topic that was opened.

        Raises TopicReplaced when it is another of the same name, BrokerUnavailable when it does not exist.
        """
        self._fetches.other_topic = False
        _, topic_id = self._describe()
        if self._topic_id is not None and topic_id != self._topic_id:
            raise TopicReplaced(f"topic {self._settings.topic} was deleted and created anew")

    def _may_be_another_topic(self) -> bool:
        known = known_topic_id(self._consumer, self._settings.topic)
        changed = known is not None and self._topic_id is not None and str(known) != self._topic_id
        return self._fetches.other_topic or changed

    def _pause(self, full: Collection[int]) -> None:
        for partition in self._partitions:
            p = partition.partition
            if p in full and p not in self._paused:
                self._consumer.pause(partition)
                self._paused.add(p)
            elif p not in full and p in self._paused:
                self._consumer.resume(partition)
                self._paused.discard(p)

    def grown(self) -> bool:
        """Return whether the topic has partitions for this service that it had not when it was opened."""
        with kafka_errors(self._settings):
            known = self._consumer.partitions_for_topic(self._settings.topic) or set()
        ours = {p for p in known if p % self._settings.world == self._settings.rank}
        return not ours <= set(self.partitions)

    def starts(self, others: Collection[int] = ()) -> Mapping[int, int]:
        """Request the offset at which the log of each partition begins, and of ``others`` of the topic."""
        return self._offsets_at("beginning", others)

    def ends(self) -> Mapping[int, int]:
        """Request the end of each partition."""
        return self._offsets_at("end")

    def known_ends(self) -> Mapping[int, int]:
        """Return the ends as of the last fetch, without a request."""
        return {p.partition: self._fetches.stable_ends.get(p.partition, 0) for p in self._partitions}

    def _offsets_at(self, which: Literal["beginning", "end"], others: Collection[int] = ()) -> dict[int, int]:
        more = [TopicPartition(self._settings.topic, p) for p in others if p not in self.partitions]
        asked = [*self._partitions, *more]
        ask = self._consumer.beginning_offsets if which == "beginning" else self._consumer.end_offsets
        with kafka_errors(self._settings):
            answer = ask(asked, timeout_ms=int(ANSWER_SECONDS * 1000))
        return {p.partition: cast("int", answer[p]) for p in asked}

    def close(self) -> None:
        """Close the connections, after a short wait for the last commit."""
        self.commits.wait(CLOSE_SECONDS)
        self.commits.close()
        self._consumer.close(autocommit=False, timeout_ms=500)
