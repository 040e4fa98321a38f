"""Summarises a run's policy for ``/state``: what is allowed, what was violated, what is not yet purged."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from lethe.events import BatchLearned, Event, LedgerHead, PolicyViolated, PurgeLag
from lethe.privacy.controls import Controls

__all__ = ["PolicyStatus"]

NO_POLICY: Final = Controls()


class _Snapshot(NamedTuple):
    """What the events up to one moment say; fields are None before they are known."""

    violations: Mapping[str, int] = MappingProxyType({})
    """By rule; replaced, never updated."""
    residency_seconds: float | None = None
    unpurged_records: int | None = None
    purge_lag_seconds: float | None = None
    ledger_entries: int | None = None
    ledger_head: str | None = None

    def after(self, event: Event) -> "_Snapshot":
        match event:
            case PolicyViolated():
                count = self.violations.get(event.rule, 0) + 1
                return self._replace(violations={**self.violations, event.rule: count})
            case BatchLearned():
                return self._replace(residency_seconds=event.residency_seconds)
            case PurgeLag():
                return self._replace(unpurged_records=event.records, purge_lag_seconds=event.seconds)
            case LedgerHead():
                return self._replace(ledger_entries=event.receipts, ledger_head=event.head)
            case _:
                return self


class PolicyStatus:
    """A subscriber to the events of a run under ``controls``.

    Events are handled on the loop's thread. Each replaces the snapshot, from which any thread reads.
    """

    def __init__(self, controls: Controls = NO_POLICY) -> None:
        self._controls = controls
        self._snapshot = _Snapshot()

    def __call__(self, event: Event) -> None:
        """Handle one event."""
        self._snapshot = self._snapshot.after(event)

    def state(self) -> dict[str, Any]:
        """Return the summary as plain JSON."""
        now, controls = self._snapshot, self._controls
        return {
            "policy": controls.policy_name,
            "allows": controls.allows,
            "residency_seconds": now.residency_seconds,
            "residency_allowed_seconds": controls.residency_seconds,
            "violations": dict(now.violations),
            "unpurged_records": now.unpurged_records,
            "purge_lag_seconds": now.purge_lag_seconds,
            "ledger_entries": now.ledger_entries,
            "ledger_head": now.ledger_head,
        }
