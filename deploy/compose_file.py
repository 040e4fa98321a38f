"""Reads commands, environment variables and ports from compose.yaml."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

__all__ = ["COMPOSE", "Composition"]

COMPOSE: Final = Path(__file__).resolve().parent / "compose.yaml"
BROKER: Final = "KAFKA_"
NATIVE: Final = frozenset(
    {"heap.opts", "listeners", "advertised.listeners", "listener.security.protocol.map"}
    | {"controller.quorum.voters", "log.dirs"}
)
"""Broker properties that depend on the machine: memory, addresses and folders."""
VARIABLE: Final = re.compile(r"\$\{(\w+):-([^}]*)\}")


class Composition:
    """The services of a compose file, with ``${NAME:-default}`` filled in from ``variables``."""

    def __init__(self, path: Path = COMPOSE, variables: Mapping[str, str] | None = None) -> None:
        given = os.environ if variables is None else variables
        text = path.read_text(encoding="utf-8")
        filled = VARIABLE.sub(lambda found: given.get(found[1]) or found[2], text)
        self._services: dict[str, dict[str, Any]] = yaml.safe_load(filled)["services"]

    @property
    def learners(self) -> list[str]:
        """Names of the services that run a learner; without those that only a profile starts."""
        return [
            name
            for name, service in self._services.items()
            if "LETHE_LEARNER__NAME" in self.environment(name) and "profiles" not in service
        ]

    def environment(self, service: str) -> dict[str, str]:
        """Return a service's environment variables."""
        return dict(self._services[service].get("environment", {}))

    def broker_properties(self) -> dict[str, str]:
        """Return Kafka's properties, without those that depend on the machine."""
        given = {
            name.removeprefix(BROKER).lower().replace("_", "."): value
            for name, value in self.environment("kafka").items()
            if name.startswith(BROKER)
        }
        return {name: value for name, value in given.items() if name not in NATIVE}

    def command(self, service: str) -> list[str]:
        """Return a service's arguments, without the program name."""
        return [str(word) for word in self._services[service]["command"]]

    def option(self, service: str, name: str) -> str:
        """Return the argument that follows ``name`` in a service's command."""
        words = self.command(service)
        return words[words.index(name) + 1]

    def port(self, service: str) -> int:
        """Return the port at which a service is published on the loopback address."""
        (published,) = self._services[service]["ports"]
        _, port, _ = str(published).split(":")
        return int(port)
