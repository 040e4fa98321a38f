"""Events about a privacy policy: retention, purges, violations, the privacy budget and the ledger."""

from dataclasses import dataclass

__all__ = [
    "LedgerHead",
    "PolicyViolated",
    "PrivacySpent",
    "PurgeBlocked",
    "PurgeLag",
    "SamplesRetained",
    "ViolationPersists",
    "WitnessStatus",
]


@dataclass(frozen=True, slots=True)
class LedgerHead:
    """The head of the ledger: its number of receipts, and the newest one's SHA-256, which covers all."""

    receipts: int
    head: str


@dataclass(frozen=True, slots=True)
class PolicyViolated:
    """The service broke a rule of its policy, or did not meet a deadline of it."""

    rule: str
    detail: str
    at: float
    """In seconds since 1970."""


@dataclass(frozen=True, slots=True)
class ViolationPersists:
    """A violation that was emitted as `PolicyViolated` still persists."""

    rule: str
    at: float
    """In seconds since 1970."""


@dataclass(frozen=True, slots=True)
class PrivacySpent:
    """The ε that a differentially private learner has spent at ``delta``, of its ``budget``.

    ``spent`` is true if another batch would exceed the budget; learning then ends. ``simulated`` is true if
    the noise is seeded and can be subtracted; ``epsilon`` is then what secret noise would have cost.
    """

    epsilon: float
    delta: float
    budget: float
    spent: bool
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class PurgeLag:
    """Records learned but not purged yet, and the seconds since the oldest of them was learned."""

    seconds: float
    records: int
    within: float
    """Limit of the policy, in seconds."""

    @property
    def overdue(self) -> bool:
        """Whether the policy's limit is exceeded."""
        return self.seconds > self.within


@dataclass(frozen=True, slots=True)
class PurgeBlocked:
    """A purge waits for another consumer group; empty if it no longer waits."""

    waits_for: str


@dataclass(frozen=True, slots=True)
class SamplesRetained:
    """The learner keeps samples for a limited time."""

    seconds: float
    """Seconds since the oldest sample arrived that the learner or a checkpoint may hold; 0 without any."""
    allowed: float
    """Limit of the policy, in seconds."""


@dataclass(frozen=True, slots=True)
class WitnessStatus:
    """Whether the newest head of the ledger was published to the witness; if not, the reason."""

    up: bool
    receipts: int
    """Receipts covered by the newest published head."""
    reason: str
