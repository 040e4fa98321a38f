"""Detects violations of a policy during a run."""

import time
from collections.abc import Callable

from lethe.errors import PolicyBroken
from lethe.events import (
    BatchLearned,
    Emit,
    Event,
    PolicyViolated,
    PrivacySpent,
    PurgeLag,
    RecordsUnlabelled,
    SamplesRetained,
    ViolationPersists,
)
from lethe.privacy.policy import Policy

__all__ = ["Enforcer", "PolicyEnforcer"]


class Enforcer:
    """Enforcement without a policy: nothing is a violation."""

    @property
    def must_stop(self) -> bool:
        """Whether the service has to stop."""
        return False

    def __call__(self, event: Event) -> None:
        """Check one event of the run."""

    def raise_if_stopped(self) -> None:
        """Raise PolicyBroken if a violation stopped the service."""


class PolicyEnforcer(Enforcer):
    """Checks a run's events against a policy and emits a `PolicyViolated` for each violation."""

    def __init__(self, policy: Policy, emit: Emit, now: Callable[[], float] = time.time) -> None:
        self._policy, self._emit, self._now = policy, emit, now
        self._violation: PolicyViolated | None = None
        self._overdue: dict[str, bool] = {}

    @property
    def must_stop(self) -> bool:
        """Whether there was a violation and the policy says that it stops the service."""
        return self._violation is not None and self._policy.on_violation == "stop"

    def raise_if_stopped(self) -> None:
        """Raise PolicyBroken if a violation stopped the service."""
        if self._violation is not None and self.must_stop:
            raise PolicyBroken(
                f"policy {self._policy.name}, {self._violation.rule}: {self._violation.detail}"
            )

    def __call__(self, event: Event) -> None:
        """Check one event of the run."""
        match event:
            case BatchLearned() | RecordsUnlabelled():
                self._check_residency(event.residency_seconds)
            case PrivacySpent():
                self._check_budget(event)
            case PurgeLag():
                detail = (
                    f"{event.records} learned records are still in the broker, the oldest for "
                    f"{event.seconds:.0f} s, policy {self._policy.name} allows {event.within:g} s"
                )
                self._violated_once("purge", event.overdue, detail)
            case SamplesRetained():
                detail = (
                    f"the learner or a checkpoint may still hold a sample that arrived {event.seconds:.0f} s "
                    f"ago, policy {self._policy.name} allows {event.allowed:g} s"
                )
                self._violated_once("ttl", event.seconds > event.allowed, detail)

    def _check_residency(self, seconds: float) -> None:
        limit = self._policy.residency_seconds
        if limit is not None and seconds > limit:
            self._violated(
                "residency",
                f"samples were in the service for {seconds:.2f} s, "
                f"policy {self._policy.name} allows {limit:g} s",
            )

    def _check_budget(self, account: PrivacySpent) -> None:
        budget = self._policy.budget
        if budget is not None and budget.exceeded_by(account):
            self._violated(
                "budget",
                f"ε = {account.epsilon:g} at δ = {account.delta:g} is spent, "
                f"policy {self._policy.name} allows {budget.epsilon:g} at {budget.delta:g}",
            )

    def _violated_once(self, rule: str, overdue: bool, detail: str) -> None:
        """Count a lasting violation once, until it is resolved."""
        if overdue and self._overdue.get(rule):
            self._emit(ViolationPersists(rule, self._now()))
        elif overdue:
            self._violated(rule, detail)
        self._overdue[rule] = overdue

    def _violated(self, rule: str, detail: str) -> None:
        self._violation = PolicyViolated(rule, detail, self._now())
        self._emit(self._violation)
