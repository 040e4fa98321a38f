"""How a Kafka cluster is reached, by the service and by producers, and the clients that reach it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from kafka.errors import KafkaConfigurationError, KafkaTimeoutError, UnrecognizedBrokerVersion

from lethe.errors import InvalidSetting
from lethe.stream.addresses import addresses_in
from lethe.stream.broker_errors import connection_error, rejected_option
from lethe.stream.kafka_patches import build_client, install
from lethe.stream.security import Option, check_options, client_security
from lethe.stream.settings import StreamSettings

__all__ = ["ANSWER_SECONDS", "Cluster", "open_client"]

ANSWER_SECONDS: Final = 3.0
"""The longest a broker that is reachable takes to answer a request."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Kafka cluster: its addresses, and the options of kafka-python that it takes to connect.

    ``api_version`` None asks the broker for it; ``timeout`` is the longest wait for an answer, in
    seconds; ``security`` holds more options, see `lethe.stream.security`. Raises InvalidSetting, before
    anything is connected, for an address that is not HOST:PORT and for an option that cannot be used.
    """

    bootstrap_servers: str
    api_version: tuple[int, ...] | None = None
    timeout: float = 15.0
    security: Mapping[str, Option] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        try:
            addresses_in(self.bootstrap_servers)
        except ValueError as error:
            raise InvalidSetting(f"bootstrap-servers: {error}") from None
        _ = self.options  # an option that cannot be used is reported here, not by the first client

    @classmethod
    def of(cls, settings: StreamSettings, timeout: float = ANSWER_SECONDS) -> Self:
        """Return the cluster that ``settings`` name. Raises InvalidSetting."""
        version = settings.api_version
        return cls(
            settings.bootstrap_servers,
            None if version is None else tuple(map(int, version.split("."))),
            timeout,
            settings.security,
        )

    @property
    def servers(self) -> list[str]:
        """The addresses, each HOST:PORT."""
        return addresses_in(self.bootstrap_servers)

    @property
    def options(self) -> dict[str, Any]:
        """The options that every client of kafka-python needs for this cluster."""
        return {
            "bootstrap_servers": self.servers,
            "api_version": self.api_version,
            "bootstrap_timeout_ms": self.timeout_ms,
            **client_security(self.security),
        }

    @property
    def timeout_ms(self) -> int:
        """`timeout` in milliseconds."""
        return round(self.timeout * 1000)


def open_client(kind: Callable[..., Any], **options: Any) -> Any:
    """Return ``kind(**options)``, a consumer, producer or admin client of kafka-python.

    Raises its errors, after closing whatever was opened; InvalidSetting, which names the option, when
    the cluster or kafka-python rejects one.
    """
    install()
    check_options(options)
    connections: list[Any] = []

    def stop_when_rejected() -> None:
        if (rejected := rejected_option(connections, options)) is not None:
            raise rejected  # trying again would not help

    try:
        return build_client(kind, options, connections, stop_when_rejected)
    except KafkaConfigurationError as error:
        raise InvalidSetting(
            f"security (LETHE_STREAM__SECURITY): kafka-python rejects it: {error}"
        ) from error
    except UnrecognizedBrokerVersion as error:
        raise InvalidSetting(
            f"api-version (stream.api_version): kafka-python does not know {options.get('api_version')}"
        ) from error
    except KafkaTimeoutError as error:
        if not connections:
            raise
        raise rejected_option(connections, options) or connection_error(connections, options) from error
