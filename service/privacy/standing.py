"""How a run stands with its policy, for whoever looks: what is allowed, what was violated, what is owed."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from service.events import BatchLearned, Event, PolicyViolated, PurgeLag
from service.privacy.ledger import LedgerMark
from service.privacy.policy import Policy

__all__ = ["Standing"]


class Standing:
    """A subscriber to a run's events. ``ledger`` gives the chain's newest entry, None without a ledger."""

    def __init__(
        self, policy: Policy | None = None, ledger: Callable[[], LedgerMark | None] = lambda: None
    ) -> None:
        self._policy, self._ledger = policy, ledger
        self._violations: Counter[str] = Counter()
        self._residency: float | None = None
        self._purge: PurgeLag | None = None

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case PolicyViolated():
                self._violations[event.rule] += 1
            case BatchLearned():
                self._residency = event.residency_seconds
            case PurgeLag():
                self._purge = event

    def state(self) -> dict[str, Any]:
        """Return the standing as plain JSON."""
        policy, mark, purge = self._policy, self._ledger(), self._purge
        return {
            "policy": None if policy is None else policy.name,
            "allows": None if policy is None else policy.retention.value,
            "residency_seconds": self._residency,
            "residency_allowed_seconds": None if policy is None else policy.residency_seconds,
            "violations": dict(self._violations),
            "unpurged_records": None if purge is None else purge.records,
            "purge_lag_seconds": None if purge is None else purge.seconds,
            "ledger_entries": None if mark is None else mark.sequence,
            "ledger_head": None if mark is None else mark.head,
        }
