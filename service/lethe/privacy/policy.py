"""A policy: what a deployment may keep, how much of it, and for how long.

It is one YAML file that a data-protection officer can read. It is applied at the start, when a learner or a
probe set that it forbids is rejected, and enforced while the service runs, by counting violations.
"""

import hashlib
import json
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lethe.errors import InvalidSetting
from lethe.events import PrivacySpent
from lethe.files.yaml import find_file, read_model
from lethe.learners.base import Learner, Retention
from lethe.learners.private.base import PrivateLearner
from lethe.probeset import ProbeSet

__all__ = ["SHIPPED", "Policy", "PrivacyBudget", "Purging", "SampleRetention", "load_policy"]

SHIPPED: Final = Path(__file__).parent / "policies"
"""Folder of the policies shipped with Lethe, each known by its name."""
_ORDER = list(Retention)  # from least to most


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SampleRetention(_Section):
    """How many samples a learner may keep and for how long; belongs to retention ``samples``."""

    capacity: int = Field(ge=1)
    ttl_seconds: float = Field(gt=0)


class Purging(_Section):
    """Learned records are deleted from the broker within ``within_seconds`` after they were learned."""

    within_seconds: float = Field(gt=0)


class PrivacyBudget(_Section):
    """Upper bound on the privacy that differentially private learning may spend in total."""

    epsilon: float = Field(gt=0)
    delta: float = Field(gt=0, lt=1)

    def exceeded_by(self, account: PrivacySpent) -> bool:
        """Return whether more was spent, or at a larger δ, or with noise that is not secret."""
        beyond = account.simulated or account.epsilon > self.epsilon * (1 + 1e-9)
        return beyond or (account.epsilon > 0 and account.delta > self.delta)


class Policy(_Section):
    """All that is allowed; a field left out sets no limit."""

    name: str = Field(min_length=1, max_length=64)
    retention: Retention
    """The most that a learner may retain of a sample."""
    samples: SampleRetention | None = None
    """Limits for learners that keep samples; needed if ``retention`` is ``samples``."""
    residency_seconds: float | None = Field(default=None, gt=0)
    """Longest time that a raw sample may be in the service."""
    purge: Purging | None = None
    """Whether and how soon learned records must be deleted from the broker."""
    dead_letter_payloads: bool = False
    """Whether dead letters may contain the malformed value itself."""
    header_text: bool = False
    """Whether text from record headers may be kept. If not, a segment has the name of a probe, or none."""
    predictions: bool = False
    """Whether the prediction for each record may leave the service, with the record's key and position."""
    budget: PrivacyBudget | None = None
    """Allows only differentially private learners, within this ε and δ."""
    prequential: bool | None = None
    """Whether accuracy on the stream itself and losses of batches may be published. They are exact numbers
    about its records, which a budget does not cover; null allows them unless there is a budget."""
    probes: list[str] | None = None
    """Probe sets that may be kept; null consents to all, an empty list to none."""
    on_violation: Literal["count", "stop"] = "count"
    """Whether a violation is only counted, or also stops the service, after a checkpoint."""

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        if (self.retention is Retention.SAMPLES) != (self.samples is not None):
            raise ValueError("samples: capacity and ttl_seconds belong to retention samples, and to no other")
        if self.budget is not None and self.prequential:
            raise ValueError("prequential: exact accuracy on the stream is beyond any budget; leave it out")
        if self.budget is not None and self.predictions:
            raise ValueError(
                "predictions: each is a number about one record, beyond any budget; leave it out"
            )
        return self

    @property
    def publishes_prequential(self) -> bool:
        """Whether accuracy on the stream itself may be published."""
        return self.budget is None if self.prequential is None else self.prequential

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the policy's content, by which receipts name it."""
        content = self.model_dump(mode="json")
        if not self.header_text:
            del content["header_text"]  # keeps the digest that older receipts name
        if self.prequential is None:
            del content["prequential"]
        if not self.predictions:
            del content["predictions"]
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def allows(self, retention: Retention) -> bool:
        """Return whether a learner may retain so much of a sample."""
        return _ORDER.index(retention) <= _ORDER.index(self.retention)

    def check_learner(self, kind: type[Learner], retention: Retention | None = None) -> None:
        """Raise InvalidSetting if a learner retains more than allowed, or is not private enough.

        ``retention`` is `Learner.retention` with the settings of a run, by default the learner's own.
        """
        retention = kind.retains if retention is None else retention
        if not self.allows(retention):
            scale = "" if retention is kind.retains else " (a scale of vectors, unless options give it)"
            raise InvalidSetting(
                f"learner {kind.name} keeps {retention.value}{scale}, "
                f"policy {self.name} allows {self.retention.value}"
            )
        if self.budget is not None and not issubclass(kind, PrivateLearner):
            raise InvalidSetting(
                f"learner {kind.name} is not differentially private, "
                f"policy {self.name} has a budget of ε = {self.budget.epsilon:g}"
            )

    def check_probes(self, probes: list[ProbeSet]) -> None:
        """Raise InvalidSetting, naming them, if probe sets have no consent."""
        rejected = [
            probe.name for probe in probes if self.probes is not None and probe.name not in self.probes
        ]
        if rejected:
            consented = ", ".join(self.probes or []) or "none"
            raise InvalidSetting(
                f"probe sets {', '.join(rejected)}: policy {self.name} consents to {consented}"
            )


def load_policy(name_or_path: str) -> Policy:
    """Return a shipped policy by its name, or one from a YAML file by its path (see `find_file`).

    Raises InvalidSetting naming the file and each bad key.
    """
    path = find_file(name_or_path, SHIPPED, "policy", InvalidSetting)
    return read_model(path, Policy, "policy", InvalidSetting)
