"""Addresses of brokers: how they are written, and which of them is another server's, too."""

import re
from ipaddress import ip_address
from typing import Final

__all__ = ["addresses_in", "broker_at"]

ADDRESS: Final = re.compile(r"(?:\[[0-9a-fA-F:.%]+\]|[\w.-]+):(\d{1,5})")
"""HOST:PORT, where HOST may be an IPv6 address in brackets."""


def addresses_in(bootstrap_servers: str) -> list[str]:
    """Return the addresses in a comma-separated list. Raises ValueError for one that is not HOST:PORT.

    >>> addresses_in("kafka-0:9092, [::1]:9092")
    ['kafka-0:9092', '[::1]:9092']
    """
    addresses = []
    for address in bootstrap_servers.split(","):
        found = ADDRESS.fullmatch(address.strip())
        if found is None or not 0 < int(found[1]) <= 65535:
            raise ValueError(f"{address!r} is not HOST:PORT")
        addresses.append(found[0])
    return addresses


def broker_at(bootstrap_servers: str, host: str, port: int) -> str | None:
    """Return the address among ``bootstrap_servers`` that a server at ``host`` and ``port`` would share.

    >>> broker_at("kafka:9092,localhost:9108", "127.0.0.1", 9108)
    'localhost:9108'
    >>> broker_at("kafka:9108", "127.0.0.1", 9108)
    """
    for address in bootstrap_servers.split(","):
        broker, _, broker_port = address.strip().rpartition(":")
        if int(broker_port) == port and _same_host(broker.strip("[]"), host.strip("[]")):
            return address.strip()
    return None


def _same_host(one: str, other: str) -> bool:
    return one == other or (_local(one) and (_local(other) or other in {"0.0.0.0", "::"}))  # noqa: S104 - compared


def _local(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
