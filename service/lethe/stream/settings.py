"""Settings of the stream: the topic to learn from and the cluster that holds it."""

import re
from collections.abc import Mapping
from typing import Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from lethe.errors import InvalidSetting
from lethe.models import Section
from lethe.stream.addresses import addresses_in
from lethe.stream.security import Option, check_security, read_security

__all__ = ["StreamSettings"]

LONGEST_NAME: Final = 249
"""Kafka's limit for a topic's name, in characters."""


class StreamSettings(Section):
    """The topic to learn from, and how its cluster is reached."""

    bootstrap_servers: str = Field(default="127.0.0.1:9092", min_length=1)
    """Addresses of the Kafka cluster, as HOST:PORT[,HOST:PORT…]."""
    topic: str = Field(default="images", pattern=r"^[a-zA-Z0-9._-]+$", max_length=LONGEST_NAME)
    """Topic whose records are samples."""
    group: str = Field(default="lethe", min_length=1)
    """Consumer group to commit offsets under; each service needs its own. Lag tools and other services on the
    topic read these offsets."""
    shared_with: str = ""
    """Consumer groups of other services on the topic, separated by commas. Nothing is purged before each of
    them has committed an offset. Groups that have already committed are found without this setting."""
    deletes: bool = True
    """Delete records from the broker when a policy requires a purge. Set it to false if another principal
    has that permission and does it."""
    dead_letter_topic: str = Field(default="", pattern=r"^[a-zA-Z0-9._-]*$", max_length=LONGEST_NAME)
    """Topic for dead letters of malformed records; TOPIC.dead-letters by default."""
    dead_letter_payloads: bool = False
    """Include the malformed value, up to 1 MB, in a dead letter. By default it holds only size and hash."""
    predictions_topic: str = Field(default="", pattern=r"^[a-zA-Z0-9._-]*$", max_length=LONGEST_NAME)
    """Topic to which the prediction for each record is written, made before the record is learned; none by
    default. It is created if it is missing. While it cannot be written, learning waits."""
    start: Literal["earliest", "latest"] = "earliest"
    """Where a run without a checkpoint starts. The first checkpoint, written before anything is learned,
    records that position."""
    accept_loss: bool = False
    """Continue although records that were not learned are gone; they are counted as lost. This also applies
    to a topic that was recreated: the records lost with the old topic cannot be counted, and what is known
    of them is logged."""
    stop_after: int | None = Field(default=None, ge=1)
    """End the run after this many records, valid and malformed. By default it never ends."""
    isolation: Literal["read_committed", "read_uncommitted"] = "read_committed"
    """Whether records of a transaction are learned only after it is committed, or also while it is open and
    after it is aborted."""
    fetch_bytes: int = Field(default=8 << 20, ge=1 << 10)
    """Maximum bytes fetched from a partition at once. A smaller value means fewer records in memory."""
    growth_seconds: float = Field(default=60.0, gt=0)
    """Seconds between checks for added partitions, which are read from their beginning."""
    rank: int = Field(default=0, ge=0)
    """Index of this service among those that share the topic. It reads partition p if
    p % stream.world == stream.rank."""
    world: int = Field(default=1, ge=1)
    """Number of services that share the topic."""
    api_version: str | None = None
    """Kafka protocol version to assume instead of asking the broker, such as 2.1."""
    security: Mapping[str, Option] = Field(default_factory=dict)
    """TLS and SASL options of kafka-python, as JSON. For example {"security_protocol": "SASL_SSL"}; a value
    @FILE is read from that file, which keeps secrets out of the environment."""

    @field_validator("security", mode="before")
    @classmethod
    def _from_json(cls, value: object) -> object:
        try:
            return read_security(value) if isinstance(value, str) else check_security(value)
        except InvalidSetting as error:
            raise ValueError(str(error)) from None

    @field_validator("bootstrap_servers")
    @classmethod
    def _addresses(cls, value: str) -> str:
        addresses_in(value)
        return value

    @field_validator("api_version")
    @classmethod
    def _version(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"\d+(\.\d+)+", value):
            raise ValueError("must be a version such as 2.1")
        return value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.dead_letter_topic == self.topic:
            raise ValueError(
                f"stream.dead_letter_topic is stream.topic, {self.topic}: each dead letter would be read "
                "there as another malformed record, endlessly; name another topic"
            )
        if self.predictions_topic in {self.topic, self.dead_letters}:
            raise ValueError(
                f"stream.predictions_topic is {self.predictions_topic}, a topic of records or of dead "
                "letters; name another topic"
            )
        if len(self.dead_letters) > LONGEST_NAME:
            raise ValueError(
                f"stream.topic is too long for {self.dead_letters}, {LONGEST_NAME} characters at most; "
                "name another topic with stream.dead_letter_topic"
            )
        if self.group in self.sharing_groups:
            raise ValueError(
                f"stream.shared_with names stream.group, {self.group}: it is for the groups of other "
                "services, each of which needs its own"
            )
        return self

    @property
    def sharing_groups(self) -> list[str]:
        """The groups in `shared_with`."""
        return [name for group in self.shared_with.split(",") if (name := group.strip())]

    @property
    def dead_letters(self) -> str:
        """The name of the dead-letter topic."""
        return self.dead_letter_topic or f"{self.topic}.dead-letters"
