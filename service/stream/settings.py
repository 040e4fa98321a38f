"""Which topic is learned, how its broker is reached, and what that means for a client."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, field_validator

from service.errors import InvalidSetting
from service.section import Section

__all__ = ["StreamSettings", "client_options"]


SWITCHES: Final = frozenset({"ssl_check_hostname"})
"""Options of kafka-python that are true or false; as text, "false" would count as true."""


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
    """Consumer group under which offsets are committed, for lag tools and for services on the same topic:
    each needs a group of its own."""
    shared_with: str = Field(default="", json_schema_extra={"flag": "--shared-with"})
    """Groups of other services on the topic, with commas: nothing is purged before each has said from where
    on it needs the records. Groups that have committed are found without this."""
    deletes: bool = True
    """Delete from the broker what a policy wants purged; false where somebody else does, who may."""
    dead_letter_topic: str = Field(default="", json_schema_extra={"flag": "--dead-letter-topic"})
    """Where malformed records are reported; by default TOPIC.dead-letters."""
    dead_letter_payloads: bool = False
    """Put the malformed value itself, up to a megabyte, into the dead letter, not just its size and hash."""
    start: Literal["earliest", "latest"] = "earliest"
    """Where a run without a checkpoint begins: the first one, before anything is learned, says where that
    was."""
    accept_loss: bool = Field(default=False, json_schema_extra={"flag": "--accept-loss"})
    """Go on although records that were not learned yet are gone, which are counted as lost, or the topic
    was created anew: nobody can count what went with the old one, and what is known of it is logged."""
    stop_after: int | None = Field(default=None, ge=1, json_schema_extra={"flag": "--stop-after"})
    """End the run after this many records, good and bad; without it, it goes on for ever."""
    fetch_bytes: int = Field(default=8 << 20, ge=1 << 10)
    """Most bytes fetched from a partition at once; less means fewer records waiting in memory."""
    growth_seconds: float = Field(default=60.0, gt=0)
    """How soon it is noticed that the topic has more partitions: they are read from their beginning."""
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

    @field_validator("bootstrap_servers")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for address in value.split(","):
            host, _, port = address.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError(f"{address!r} is not HOST:PORT")
        return value

    @field_validator("api_version")
    @classmethod
    def _version(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"\d+(\.\d+)+", value):
            raise ValueError("is a version such as 2.1")
        return value

    @property
    def sharing_groups(self) -> list[str]:
        """The groups in `shared_with`."""
        return [name for group in self.shared_with.split(",") if (name := group.strip())]

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
    for name in SWITCHES & options.keys():
        options[name] = options[name].lower() == "true"
    return options


def _secret(name: str, value: str) -> str:
    try:
        return Path(value[1:]).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"stream.security {name}: {value[1:]} cannot be read: {error}") from error
