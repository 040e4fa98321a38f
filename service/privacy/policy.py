"""The policy: what a deployment may keep, how much of it, and for how long.

One YAML file that a data-protection officer can read. The service is held to it at the start,
by refusing a learner or a probe set beyond it, and while it runs, by counting violations.
"""

import hashlib
import json
from pathlib import Path
from typing import Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.errors import InvalidSetting
from service.events import PrivacySpent
from service.learners.base import Learner, Retention
from service.learners.private import PrivateLearner
from service.probeset import ProbeSet

__all__ = ["SHIPPED", "Policy", "PrivacyBudget", "Purging", "SampleRetention", "load_policy"]

SHIPPED: Final = Path(__file__).parent / "policies"
"""Policies that come with Lethe, each known by its name."""
_ORDER = list(Retention)  # from least to most


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SampleRetention(_Part):
    """How many samples a learner may keep, and for how long; for the retention class ``samples``."""

    capacity: int = Field(ge=1)
    ttl_seconds: float = Field(gt=0)


class Purging(_Part):
    """Learned records leave the broker at the latest ``within_seconds`` after they were learned."""

    within_seconds: float = Field(gt=0)


class PrivacyBudget(_Part):
    """What differentially private learning may spend in all."""

    epsilon: float = Field(gt=0)
    delta: float = Field(gt=0, lt=1)

    def exceeded_by(self, account: PrivacySpent) -> bool:
        """Tell whether more was spent than this, or at a larger δ."""
        beyond = account.epsilon > self.epsilon * (1 + 1e-9)
        return beyond or (account.epsilon > 0 and account.delta > self.delta)


class Policy(_Part):
    """All that is allowed; whatever is not named is not limited."""

    name: str = Field(min_length=1, max_length=64)
    retention: Retention
    """The most that a learner may keep of a sample."""
    samples: SampleRetention | None = None
    """Limits for learners that keep samples; needed where ``retention`` is ``samples``."""
    residency_seconds: float | None = Field(default=None, gt=0)
    """How long a raw sample may be in the service."""
    purge: Purging | None = None
    """Whether and how soon the broker must forget what was learned."""
    dead_letter_payloads: bool = False
    """Whether dead letters may carry the malformed value itself."""
    budget: PrivacyBudget | None = None
    """Only differentially private learners, within this ε and δ."""
    probes: list[str] | None = None
    """The probe sets that may be kept; null consents to all, an empty list to none."""
    on_violation: Literal["count", "stop"] = "count"
    """Whether a violation only counts, or also stops the service, after a checkpoint."""

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        if (self.retention is Retention.SAMPLES) != (self.samples is not None):
            raise ValueError("samples: capacity and ttl_seconds belong to retention samples, and to no other")
        return self

    @property
    def digest(self) -> str:
        """SHA-256, in hex, over the policy's content: what receipts name it by."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def allows(self, retention: Retention) -> bool:
        """Tell whether so much of a sample may be kept."""
        return _ORDER.index(retention) <= _ORDER.index(self.retention)

    def check_learner(self, kind: type[Learner]) -> None:
        """Raise InvalidSetting, naming both, if a learner keeps more than is allowed, or too openly."""
        if not self.allows(kind.retains):
            raise InvalidSetting(
                f"learner {kind.name} keeps {kind.retains.value}, "
                f"policy {self.name} allows {self.retention.value}"
            )
        if self.budget is not None and not issubclass(kind, PrivateLearner):
            raise InvalidSetting(
                f"learner {kind.name} is not differentially private, "
                f"policy {self.name} has a budget of ε = {self.budget.epsilon:g}"
            )

    def check_probes(self, probes: list[ProbeSet]) -> None:
        """Raise InvalidSetting, naming both, if a probe set has no consent."""
        refused = [
            probe.name for probe in probes if self.probes is not None and probe.name not in self.probes
        ]
        if refused:
            consented = ", ".join(self.probes or []) or "none"
            raise InvalidSetting(
                f"probe sets {', '.join(refused)}: policy {self.name} consents to {consented}"
            )


def load_policy(name_or_path: str | Path) -> Policy:
    """Return a shipped policy by its name, or one from a YAML file by its path.

    Raises InvalidSetting naming the file and each bad key.
    """
    path = Path(name_or_path)
    shipped = SHIPPED / f"{name_or_path}.yaml"
    if shipped.is_file() and not path.is_file():
        path = shipped
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Policy.model_validate(content)
    except (OSError, yaml.YAMLError) as error:
        names = ", ".join(sorted(known.stem for known in SHIPPED.glob("*.yaml")))
        raise InvalidSetting(f"policy {path} cannot be read, and is none of {names}: {error}") from error
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'policy'}: {e['msg']}" for e in error.errors()]
        raise InvalidSetting(f"policy {path}: {'; '.join(problems)}") from error
