"""What a policy is about: what is kept, what was spent, what must go."""

from dataclasses import dataclass

__all__ = [
    "LedgerStands",
    "PolicyViolated",
    "PrivacySpent",
    "PurgeHeldUp",
    "PurgeLag",
    "SamplesKept",
    "ViolationLasts",
]


@dataclass(frozen=True, slots=True)
class LedgerStands:
    """The ledger's newest receipt: how many there are, and its SHA-256, which stands for all before."""

    receipts: int
    head: str


@dataclass(frozen=True, slots=True)
class PolicyViolated:
    """The service did what its policy forbids, or did not do in time what it asks for."""

    rule: str
    detail: str
    at: float
    """In seconds since 1970."""


@dataclass(frozen=True, slots=True)
class ViolationLasts:
    """What was told as one `PolicyViolated` has not been put right yet."""

    rule: str
    at: float
    """In seconds since 1970."""


@dataclass(frozen=True, slots=True)
class PrivacySpent:
    """What a differentially private learner has spent: ``epsilon`` at ``delta``, of a ``budget`` of ε.

    ``spent``: another batch would go beyond the budget, so learning ends here.
    """

    epsilon: float
    delta: float
    budget: float
    spent: bool


@dataclass(frozen=True, slots=True)
class PurgeLag:
    """How long the oldest ``records`` that were learned and not purged have been so; 0 if there are none."""

    seconds: float
    records: int
    within: float
    """Seconds that the policy allows."""

    @property
    def overdue(self) -> bool:
        """The policy asked for them to be gone by now."""
        return self.seconds > self.within


@dataclass(frozen=True, slots=True)
class PurgeHeldUp:
    """A purge waits for somebody; an empty ``waits_for``: not any more."""

    waits_for: str


@dataclass(frozen=True, slots=True)
class SamplesKept:
    """The learner keeps samples, for a time only."""

    seconds: float
    """How long ago the oldest arrived that it, or a checkpoint of it, may hold; 0 without any."""
    allowed: float
    """Seconds that the policy allows."""
