"""Checks over plain TCP whether any broker can be reached, before a Kafka client is imported."""

import socket
from typing import Final

__all__ = ["why_unreachable"]

TIMEOUT_SECONDS: Final = 1.0
"""Time for a connection to one address."""


def why_unreachable(bootstrap_servers: str) -> str:
    """Return why no address of ``bootstrap_servers`` accepts a connection; empty if one does.

    >>> why_unreachable("127.0.0.1:1")
    '127.0.0.1:1: Connection refused'
    """
    failures = []
    for address in bootstrap_servers.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), TIMEOUT_SECONDS):
                return ""
        except TimeoutError:
            failures.append(f"{address.strip()}: no answer within {TIMEOUT_SECONDS:g} s")
        except OSError as error:
            failures.append(f"{address.strip()}: {error.strerror or error}")
    return "; ".join(failures)
