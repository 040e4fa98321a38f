"""Kafka as a `Source`: the service's only import of kafka-python, with `client` and `deadletter`.

Partitions are assigned, never subscribed: no rebalance can hand a half-learned partition to
somebody else. Nothing is deserialized here and no offset is committed automatically.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal, cast
from uuid import UUID

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import (
    BrokerResponseError,
    CorruptRecordError,
    KafkaConnectionError,
    KafkaError,
    LogTruncationError,
    NoError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RetriableError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)
from kafka.structs import OffsetAndMetadata
from pydantic import Field, field_validator

from service.errors import BrokerUnavailable, InvalidSetting, PositionLost
from service.section import Section
from service.stream.client import open_client
from service.stream.source import Record

__all__ = ["KafkaSource", "StreamSettings", "client_options", "delete_topics", "ensure_topic", "kafka_errors"]

ANSWER_SECONDS: Final = 3.0
"""How long a broker that is there takes, at most, to answer a question."""


class StreamSettings(Section):
    """Which topic is learned, and how its broker is reached."""

    bootstrap_servers: str = Field(
        default="127.0.0.1:9092", json_schema_extra={"flag": "--bootstrap-servers"}, min_length=1
    )
    """Addresses of the Kafka cluster, HOST:PORT[,HOST:PORT…]."""
    topic: str = Field(
        default="images", json_schema_extra={"flag": "--topic"}, pattern=r"^[a-zA-Z0-9._-]+$", max_length=249
    )
    """The topic whose records are samples."""
    group: str = Field(default="lethe", json_schema_extra={"flag": "--group"}, min_length=1)
    """Consumer group under which offsets are committed, for lag tools only."""
    dead_letter_topic: str = Field(default="", json_schema_extra={"flag": "--dead-letter-topic"})
    """Where malformed records are reported; by default TOPIC.dead-letters."""
    dead_letter_payloads: bool = False
    """Put the malformed value itself, up to a megabyte, into the dead letter, not just its size and hash."""
    start: Literal["earliest", "latest"] = "earliest"
    """Where a run without a checkpoint begins."""
    accept_loss: bool = Field(default=False, json_schema_extra={"flag": "--accept-loss"})
    """Go on although records that were not learned yet are gone, or the topic was created anew; what is
    missing is counted as lost."""
    stop_after: int | None = Field(default=None, ge=1, json_schema_extra={"flag": "--stop-after"})
    """End the run after this many records, good and bad; without it, it goes on for ever."""
    fetch_bytes: int = Field(default=8 << 20, ge=1 << 10)
    """Most bytes fetched from a partition at once; less means fewer records waiting in memory."""
    rank: int = Field(default=0, ge=0)
    """Of several services on one topic, which this one is: it takes partition p where p % world == rank."""
    world: int = Field(default=1, ge=1)
    """How many services share the topic."""
    api_version: str | None = None
    """Protocol version to assume instead of asking the broker, such as 2.1."""
    security: Mapping[str, str] = Field(default_factory=dict)
    """More kafka-python options as JSON, such as {"security_protocol": "SASL_SSL", …}; a value
    @FILE is read from that file, so that no secret need stand in the environment."""

    @field_validator("security", mode="before")
    @classmethod
    def _from_json(cls, value: object) -> object:
        return json.loads(value) if isinstance(value, str) else value

    @field_validator("api_version")
    @classmethod
    def _version(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"\d+(\.\d+)+", value):
            raise ValueError("is a version such as 2.1")
        return value

    @property
    def dead_letters(self) -> str:
        """The dead-letter topic in force."""
        return self.dead_letter_topic or f"{self.topic}.dead-letters"


def client_options(settings: StreamSettings) -> dict[str, Any]:
    """Return what every kafka-python client of this deployment is told.

    Raises InvalidSetting for a secret's file that cannot be read.
    """
    options: dict[str, Any] = {"bootstrap_servers": settings.bootstrap_servers.split(",")}
    if settings.api_version is not None:
        options["api_version"] = tuple(map(int, settings.api_version.split(".")))
    for name, value in settings.security.items():
        options[name] = _secret(name, value) if value.startswith("@") else value
    return options


def _secret(name: str, value: str) -> str:
    try:
        return Path(value[1:]).read_text().strip()
    except OSError as error:
        raise InvalidSetting(f"stream.security {name}: {value[1:]} cannot be read: {error}") from error


@contextmanager
def kafka_errors(settings: StreamSettings) -> Iterator[None]:
    """Turn kafka-python's errors into ours."""
    where = f"Kafka at {settings.bootstrap_servers}"
    try:
        yield
    except (OffsetOutOfRangeError, LogTruncationError, NoOffsetForPartitionError) as error:
        raise PositionLost(f"topic {settings.topic}: {error}") from error
    except (RetriableError, KafkaConnectionError) as error:
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        raise BrokerUnavailable(f"{where} does not answer ({reason})") from error
    except (KafkaError, BrokerResponseError) as error:
        raise InvalidSetting(f"{where}: {type(error).__name__}: {error}") from error


@contextmanager
def _admin(settings: StreamSettings) -> Iterator[Any]:
    with kafka_errors(settings):
        patience = int(ANSWER_SECONDS * 1000)
        options = client_options(settings) | {
            "bootstrap_timeout_ms": patience,
            "request_timeout_ms": patience,
        }
        admin = open_client(KafkaAdminClient, **options)
        try:
            yield admin
        finally:
            admin.close()


def ensure_topic(settings: StreamSettings, name: str, partitions: int = 1) -> None:
    """Create topic ``name`` unless it is there.

    Raises BrokerUnavailable; InvalidSetting when the broker refuses.
    """
    with _admin(settings) as admin, suppress(TopicAlreadyExistsError):
        # asked first: a cluster may list topics to those whom it lets create none
        if name not in admin.list_topics():
            admin.create_topics([NewTopic(name, partitions, -1)])


def delete_topics(settings: StreamSettings, names: Sequence[str]) -> None:
    """Delete those of the topics ``names`` that are there. Raises as `ensure_topic`."""
    with _admin(settings) as admin:
        admin.delete_topics([name for name in admin.list_topics() if name in names])


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
                bootstrap_timeout_ms=int(ANSWER_SECONDS * 1000),
            )
            self._consumer.assign(self._partitions)

    def _describe(self) -> tuple[list[TopicPartition], str | None]:
        settings = self._settings
        with _admin(settings) as admin:
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
        """Read from ``offsets`` on, a partition without one from `StreamSettings.start`."""
        starts = self._offsets_at("beginning")
        ends = self._offsets_at("end")
        fresh = starts if self._settings.start == "earliest" else ends
        in_force = {}
        for partition in self._partitions:
            p = partition.partition
            offset = offsets.get(p, fresh[p])
            if offset < starts[p] and not self._settings.accept_loss:
                raise PositionLost(
                    f"topic {self._settings.topic}, partition {p}: {starts[p] - offset} samples from offset "
                    f"{offset} on are gone, the log starts at {starts[p]}; --accept-loss goes on without them"
                )
            if offset > ends[p]:
                raise PositionLost(
                    f"topic {self._settings.topic}, partition {p}: offset {offset} is past the "
                    f"end {ends[p]}; the topic was deleted and created anew"
                )
            self._consumer.seek(partition, max(offset, starts[p]))
            in_force[p] = offset
        return in_force

    def poll(self, timeout: float, limit: int, full: Collection[int]) -> list[Record]:
        """Return up to ``limit`` records, in offset order within a partition, or none yet."""
        self._pause(full)
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

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell the broker what has been learned; for lag tools only."""
        commits = {
            TopicPartition(self._settings.topic, p): OffsetAndMetadata(o, "", -1) for p, o in offsets.items()
        }
        with kafka_errors(self._settings):
            self._consumer.commit(commits, timeout_ms=int(ANSWER_SECONDS * 1000))

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close(autocommit=False, timeout_ms=500)
