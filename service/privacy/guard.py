"""The guard: holds a running service to its policy."""

import time
from collections.abc import Callable
from typing import Final

from service.errors import InvalidSetting
from service.events import (
    BatchLearned,
    Emit,
    Event,
    PolicyViolated,
    PrivacySpent,
    PurgeLag,
    SamplesKept,
    ViolationLasts,
)
from service.learners.base import Learner, Retention
from service.learners.expiring import Expires
from service.privacy.kept import TimeToLive
from service.privacy.policy import Policy
from service.probeset import ProbeSet
from service.settings import CheckpointSettings, Settings

__all__ = ["Guard", "held_to", "time_to_live"]

FETCH_BYTES: Final = 256 << 10
"""Fetched from a partition at once where residency is bounded: some hundred samples, soon learned."""
AHEAD: Final = 256
"""Samples in the service at once, there, but at least two batches: one to learn, one to be filled."""


def held_to(policy: Policy, settings: Settings, kind: type[Learner], probes: list[ProbeSet]) -> Settings:
    """Return ``settings`` as far as the policy lets them be.

    Raises InvalidSetting, naming the policy and what is beyond it.
    """
    policy.check_learner(kind)
    policy.check_probes(probes)
    _check_samples(policy, settings, kind)
    if settings.stream.dead_letter_payloads and not policy.dead_letter_payloads:
        raise InvalidSetting(f"stream.dead_letter_payloads: policy {policy.name} does not allow them")
    if settings.checkpoint.folder is None:
        raise InvalidSetting(f"policy {policy.name} asks for a ledger: --state says where it is kept")
    stream, batch, checkpoint = settings.stream, settings.batch, settings.checkpoint
    if policy.residency_seconds is not None:
        stream = stream.model_copy(update={"fetch_bytes": min(stream.fetch_bytes, FETCH_BYTES)})
        batch = batch.model_copy(update={"slots": min(batch.slots, max(2, AHEAD // batch.size))})
    if policy.purge is not None:
        # records go when the oldest checkpoint is beyond them: after `keep` more; twice, to be in time
        often = policy.purge.within_seconds / (2 * checkpoint.keep)
        checkpoint = checkpoint.model_copy(update={"every_seconds": min(checkpoint.every_seconds, often)})
    if policy.samples is not None and kind.retains is Retention.SAMPLES:
        # so that samples are in checkpoints for a quarter of their time to live at most
        often = policy.samples.ttl_seconds / (4 * checkpoint.keep)
        checkpoint = checkpoint.model_copy(update={"every_seconds": min(checkpoint.every_seconds, often)})
    return settings.model_copy(update={"stream": stream, "batch": batch, "checkpoint": checkpoint})


def time_to_live(policy: Policy, kind: type[Learner], checkpoint: CheckpointSettings) -> TimeToLive | None:
    """Return how long a learner of that kind may keep samples; None where it keeps none.

    It lets go of them in time for every checkpoint with them to be replaced by a newer one; twice, to
    be in time.
    """
    if kind.retains is not Retention.SAMPLES or policy.samples is None:
        return None
    margin = 2 * checkpoint.keep * checkpoint.every_seconds
    return TimeToLive(policy.samples.ttl_seconds, margin, checkpoint.keep)


def _check_samples(policy: Policy, settings: Settings, kind: type[Learner]) -> None:
    if kind.retains is not Retention.SAMPLES or policy.samples is None:
        return
    capacity = getattr(kind.Options.of(settings.learner.options), "capacity", None)
    if capacity is None:
        raise InvalidSetting(
            f"learner {kind.name} keeps samples and has no option capacity: policy {policy.name} cannot "
            f"hold it to {policy.samples.capacity}"
        )
    if capacity > policy.samples.capacity:
        raise InvalidSetting(
            f"learner.options.capacity: {kind.name} would keep {capacity} samples, "
            f"policy {policy.name} allows {policy.samples.capacity}"
        )
    if not issubclass(kind, Expires):
        raise InvalidSetting(
            f"learner {kind.name} keeps samples and cannot let go of old ones (it has no method expire): "
            f"policy {policy.name} cannot hold it to {policy.samples.ttl_seconds:g} s"
        )


class Guard:
    """Takes a run's events and emits a `PolicyViolated` for each that is beyond the policy.

    ``stop`` becomes true where the policy says that a violation stops the service.
    """

    def __init__(self, policy: Policy, emit: Emit, now: Callable[[], float] = time.time) -> None:
        self._policy, self._emit, self._now = policy, emit, now
        self.name = policy.name
        self.violation: PolicyViolated | None = None
        self._late: dict[str, bool] = {}

    @property
    def stop(self) -> bool:
        """The service has to stop."""
        return self.violation is not None and self._policy.on_violation == "stop"

    def __call__(self, event: Event) -> None:
        """Take one event."""
        limit = self._policy.residency_seconds
        if isinstance(event, BatchLearned) and limit is not None and event.residency_seconds > limit:
            self._violated(
                "residency",
                f"samples were in the service for {event.residency_seconds:.2f} s, "
                f"policy {self._policy.name} allows {limit:g} s",
            )
        budget = self._policy.budget
        if isinstance(event, PrivacySpent) and budget is not None and budget.exceeded_by(event):
            self._violated(
                "budget",
                f"ε = {event.epsilon:g} at δ = {event.delta:g} is spent, "
                f"policy {self._policy.name} allows {budget.epsilon:g} at {budget.delta:g}",
            )
        if isinstance(event, PurgeLag):
            detail = (
                f"{event.records} records were learned and are still in the broker, the oldest for "
                f"{event.seconds:.0f} s, policy {self._policy.name} allows {event.within:g} s"
            )
            self._once("purge", event.overdue, detail)
        if isinstance(event, SamplesKept):
            detail = (
                f"the learner or a checkpoint may still keep a sample that arrived {event.seconds:.0f} s "
                f"ago, policy {self._policy.name} allows {event.allowed:g} s"
            )
            self._once("ttl", event.seconds > event.allowed, detail)

    def _once(self, rule: str, late: bool, detail: str) -> None:
        """Count what lasts as one violation, until it has been put right."""
        if late and self._late.get(rule):
            self._emit(ViolationLasts(rule, self._now()))
        elif late:
            self._violated(rule, detail)
        self._late[rule] = late

    def _violated(self, rule: str, detail: str) -> None:
        self.violation = PolicyViolated(rule, detail, self._now())
        self._emit(self.violation)
