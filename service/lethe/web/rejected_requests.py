"""Counts the connections and requests that the HTTP interface rejects, by reason."""

from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter

__all__ = ["RejectedRequests", "RejectionReason"]


class RejectionReason(StrEnum):
    """Why a connection was closed or a request was not answered."""

    CROWDED = "crowded"
    """Too many connections were open, and this one had been idle for longest."""
    SLOW_HEAD = "slow_head"
    """The head of a request was begun but not completed in time."""
    SLOW_READER = "slow_reader"
    """The client read its response too slowly."""
    LONG_HEAD = "long_head"
    """The head of a request was too long."""
    HOST = "host"
    """The Host header named another host."""
    LISTENERS = "listeners"
    """Too many clients listened to /events."""


class RejectedRequests:
    """The metric of rejected connections and requests, registered in ``registry``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        rejections = Counter(
            "lethe_http_refusals",
            "Connections closed and requests rejected by the HTTP interface, by reason.",
            ("reason",),
            registry=registry,
        )
        self._by_reason = {reason: rejections.labels(reason.value) for reason in RejectionReason}

    def __call__(self, reason: RejectionReason) -> None:
        """Count one rejection."""
        self._by_reason[reason].inc()
