"""How a Kafka cluster is reached: its addresses, and whatever it takes to be let in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from service.errors import InvalidSetting

__all__ = ["Broker", "read_security"]

ADDRESS: Final = re.compile(r"(?:\[[0-9a-fA-F:.%]+\]|[\w.-]+):(\d{1,5})")
"""HOST:PORT, where HOST may be an IPv6 address in brackets."""
SWITCHES: Final = {"ssl_check_hostname": {"true": True, "false": False}}
"""Of the options that say how to be let in, the one that kafka-python wants as a bool."""


@dataclass(frozen=True, slots=True)
class Broker:
    """How to reach a cluster; ``api_version`` None asks it, ``timeout`` is in seconds.

    ``security`` holds more options of kafka-python, all as text; a value @FILE is read from that
    file. Raises InvalidSetting, before anything is connected, for an address that is none, a file
    that cannot be read, and a switch that is neither true nor false.
    """

    bootstrap_servers: str
    api_version: tuple[int, ...] | None = None
    timeout: float = 15.0
    security: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for address in self.bootstrap_servers.split(","):
            found = ADDRESS.fullmatch(address.strip())
            if found is None or not 0 < int(found[1]) <= 65535:
                raise InvalidSetting(f"bootstrap-servers: {address!r} is not HOST:PORT")
        _ = self.options  # a bad option is refused here, not by the first client

    @property
    def options(self) -> dict[str, Any]:
        """The settings that kafka-python's three clients have in common."""
        return {
            "bootstrap_servers": [address.strip() for address in self.bootstrap_servers.split(",")],
            "api_version": self.api_version,
            "bootstrap_timeout_ms": self.timeout_ms,
            **{name: _option(name, value) for name, value in self.security.items()},
        }

    @property
    def timeout_ms(self) -> int:
        """The longest wait for an answer, in milliseconds."""
        return round(self.timeout * 1000)


def read_security(text: str) -> dict[str, str]:
    """Return the options that ``text``, a JSON object of strings, holds.

    Raises InvalidSetting, which names what is wrong and quotes no value: it may be a secret.
    """
    try:
        return TypeAdapter(dict[str, str]).validate_json(text)
    except ValidationError as error:
        problems = [": ".join([*map(str, each["loc"]), each["msg"]]) for each in error.errors()]
        raise InvalidSetting(
            f"security (LETHE_STREAM__SECURITY) is not a JSON object of strings: {'; '.join(problems)}"
        ) from None


def _option(name: str, value: str) -> str | bool:
    if value.startswith("@"):
        try:
            value = Path(value[1:]).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidSetting(f"security {name}: {value[1:]} cannot be read: {error}") from error
    if name not in SWITCHES:
        return value
    if value not in SWITCHES[name]:
        raise InvalidSetting(f"security {name} is {value!r}, and must be true or false")
    return SWITCHES[name][value]
