"""Privacy controls: what a policy, or its absence, means for a run."""

import logging

from lethe.checkpointing.state_folder import StateFolder
from lethe.events import Emit
from lethe.ingest.scrubbing import disable_core_dumps, scrubs_freed_memory
from lethe.learners.base import Learner, Retention
from lethe.learners.state import JSON
from lethe.privacy.apply import apply_budget, apply_policy, check_leftovers
from lethe.privacy.deadlines import NoTimeToLive, TimeToLive
from lethe.privacy.enforcement import Enforcer, PolicyEnforcer
from lethe.privacy.policy import Policy, load_policy
from lethe.privacy.purge_backlog import NoPurgeBacklog, PurgeBacklog
from lethe.probeset import ProbeSet
from lethe.settings import CheckpointSettings, PrivacySettings, Settings

__all__ = ["Controls", "PolicyControls", "load_controls"]

logger = logging.getLogger("lethe")


class Controls:
    """The controls of a run without a policy: everything is allowed and nothing is enforced.

    `PolicyControls` overrides what a policy changes, so a run never asks whether there is one.
    """

    policy_name: str | None = None
    allows: str | None = None
    """The most that a learner may retain of a sample, as the policy names it; None without a policy."""
    digest: str | None = None
    """SHA-256 of the policy, by which receipts name it."""
    residency_seconds: float | None = None
    """Longest time that a raw sample may be in the service; None without a limit."""
    purges = False
    """Whether learned records are deleted from the broker."""
    publishes_prequential = True
    """Whether accuracy on the stream itself, and the loss of each batch, may be published."""
    keeps_segment_names = True
    """Whether names of segments, which are text of record headers, may be kept."""

    @property
    def evaluates_apart(self) -> bool:
        """Whether no sample may be in the service during a full evaluation, which takes seconds."""
        return self.residency_seconds is not None

    def check_learner(self, kind: type[Learner]) -> None:
        """Raise InvalidSetting unless a learner of ``kind`` may be used, with its default options."""

    def apply(self, settings: Settings, kind: type[Learner], probes: list[ProbeSet]) -> Settings:
        """Return ``settings`` within the policy's bounds; raises InvalidSetting for what it forbids."""
        del kind, probes
        return settings

    def check_folder(self, folder: StateFolder | None, kind: type[Learner]) -> None:
        """Raise InvalidSetting if an earlier run left more in the state folder than the policy allows."""

    def protect_process(self) -> None:
        """Disable core dumps, and warn if freed memory is not overwritten although it should be."""

    def segment_names(self, probes: list[ProbeSet]) -> frozenset[str] | None:
        """Return the only segment names that may be kept; None if all may."""
        del probes
        return None

    def detects_boundaries(self, kind: type[Learner]) -> bool:
        """Return whether boundaries may be looked for in the stream."""
        del kind
        return True

    def time_to_live(self, kind: type[Learner], checkpoint: CheckpointSettings) -> NoTimeToLive:
        """Return how long a learner of ``kind`` may keep samples."""
        del kind, checkpoint
        return NoTimeToLive()

    def create_purge_backlog(self, since: JSON) -> NoPurgeBacklog:
        """Return what tracks learned records that are not purged yet; ``since`` is from the checkpoint."""
        del since
        return NoPurgeBacklog()

    def create_enforcer(self, emit: Emit) -> Enforcer:
        """Return what detects violations while the run is active."""
        del emit
        return Enforcer()


class PolicyControls(Controls):
    """The controls of a run under ``policy``."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.policy_name = policy.name
        self.allows = policy.retention.value
        self.digest = policy.digest
        self.residency_seconds = policy.residency_seconds
        self.purges = policy.purge is not None
        self.publishes_prequential = policy.publishes_prequential
        self.keeps_segment_names = policy.header_text

    def check_learner(self, kind: type[Learner]) -> None:
        """Raise InvalidSetting unless a learner of ``kind`` may be used, with its default options."""
        self._policy.check_learner(kind)
        apply_budget(Settings.read({"learner": {"name": kind.name}}), self._policy, kind)

    def apply(self, settings: Settings, kind: type[Learner], probes: list[ProbeSet]) -> Settings:
        """Return ``settings`` within the policy's bounds; raises InvalidSetting for what it forbids."""
        return apply_policy(settings, self._policy, kind, probes)

    def check_folder(self, folder: StateFolder | None, kind: type[Learner]) -> None:
        """Raise InvalidSetting if an earlier run left more in the state folder than the policy allows."""
        if folder is not None:
            check_leftovers(self._policy, folder.folder, kind)

    def protect_process(self) -> None:
        """Disable core dumps, and warn if freed memory is not overwritten although it should be."""
        disable_core_dumps()
        if self.residency_seconds is not None and not scrubs_freed_memory():
            logger.warning(
                "policy %s bounds residency, but this process does not overwrite the memory it frees; "
                "start it with the lethe command",
                self._policy.name,
            )

    def segment_names(self, probes: list[ProbeSet]) -> frozenset[str] | None:
        """Return the only segment names that may be kept, those of the probe sets; None if all may."""
        return None if self.keeps_segment_names else frozenset(probe.name for probe in probes)

    def detects_boundaries(self, kind: type[Learner]) -> bool:
        """Return whether boundaries may be looked for: that needs exact sums over images and losses.

        Logs a warning if a learner of ``kind`` would act on boundaries.
        """
        if self._policy.budget is None and self._policy.allows(Retention.STATISTICS):
            return True
        if kind.boundary is not Learner.boundary:
            logger.warning(
                "policy %s does not allow boundary detection: %s is never notified of a boundary and "
                "learns as if the stream never changed",
                self._policy.name,
                kind.name,
            )
        return False

    def time_to_live(self, kind: type[Learner], checkpoint: CheckpointSettings) -> NoTimeToLive:
        """Return how long a learner of ``kind`` may keep samples.

        Samples are deleted early enough for every checkpoint that holds them to be replaced in time; the
        factor 2 leaves room for slow writes.
        """
        if kind.retains is not Retention.SAMPLES or self._policy.samples is None:
            return NoTimeToLive()
        margin = 2 * checkpoint.keep * checkpoint.every_seconds
        return TimeToLive(self._policy.samples.ttl_seconds, margin, checkpoint.keep)

    def create_purge_backlog(self, since: JSON) -> NoPurgeBacklog:
        """Return what tracks learned records that are not purged yet; ``since`` is from the checkpoint."""
        purge = self._policy.purge
        return NoPurgeBacklog() if purge is None else PurgeBacklog(purge.within_seconds, since)

    def create_enforcer(self, emit: Emit) -> Enforcer:
        """Return what detects violations while the run is active."""
        return PolicyEnforcer(self._policy, emit)


def load_controls(settings: PrivacySettings) -> Controls:
    """Return the controls of the policy that ``settings`` name; those without a policy if they name none.

    Raises InvalidSetting for a policy that does not exist or cannot be read.
    """
    return PolicyControls(load_policy(settings.policy)) if settings.policy else Controls()
