"""Applies a policy to a run before it starts: bounds its settings and rejects what the policy forbids."""

import time
from pathlib import Path
from typing import Final

from lethe.checkpointing.checkpoint import read_learner_name
from lethe.checkpointing.state_folder import leftover_checkpoints
from lethe.errors import InvalidFile, InvalidSetting
from lethe.ingest.slots import INCOMPLETE_SHARE
from lethe.learners.base import Learner, Retention
from lethe.learners.capabilities import Expires
from lethe.learners.private.base import PrivateLearner
from lethe.learners.registry import LEARNERS, plugins
from lethe.privacy.policy import Policy
from lethe.probeset import ProbeSet
from lethe.settings import Settings

__all__ = ["apply_budget", "apply_policy", "check_leftovers"]

FETCH_BYTES: Final = 256 << 10
"""Largest fetch from a partition under a residency bound: a few hundred samples, which are soon learned."""
READ_AHEAD: Final = 256
"""Samples read ahead under a residency bound; at least two batches, one to learn and one to fill."""


def apply_policy(settings: Settings, policy: Policy, kind: type[Learner], probes: list[ProbeSet]) -> Settings:
    """Return ``settings`` within the bounds of ``policy``, for a learner of ``kind``.

    Raises InvalidSetting, naming the policy and the setting, for what the policy forbids.
    """
    settings = apply_budget(settings, policy, kind)
    policy.check_learner(kind, kind.retention(settings.sample, settings.learner.options))
    policy.check_probes(probes)
    _check_samples(policy, settings, kind)
    if settings.stream.dead_letter_payloads and not policy.dead_letter_payloads:
        raise InvalidSetting(f"stream.dead_letter_payloads: policy {policy.name} does not allow them")
    if settings.stream.predictions_topic and not policy.predictions:
        raise InvalidSetting(
            f"stream.predictions_topic: policy {policy.name} does not allow predictions to leave the service"
        )
    if settings.labels.max_classes is not None and not policy.header_text:
        raise InvalidSetting(
            f"labels.max_classes: names of classes would be collected from record headers, and policy "
            f"{policy.name} keeps no text of headers; list the names in a file, labels.names"
        )
    if settings.checkpoint.folder is None:
        raise InvalidSetting(f"policy {policy.name} asks for a ledger: --state says where it is kept")
    settings = _bound_residency(settings, policy)
    seconds = [settings.checkpoint.every_seconds]
    if policy.purge is not None:
        # a record can be purged once `keep` checkpoints cover it; the factor 2 leaves time for the purge
        seconds.append(policy.purge.within_seconds / (2 * settings.checkpoint.keep))
    if policy.samples is not None and kind.retains is Retention.SAMPLES:
        # samples then stay in checkpoints for at most a quarter of their time to live
        seconds.append(policy.samples.ttl_seconds / (4 * settings.checkpoint.keep))
    checkpoint = settings.checkpoint.model_copy(update={"every_seconds": min(seconds)})
    return settings.model_copy(update={"checkpoint": checkpoint})


def apply_budget(settings: Settings, policy: Policy, kind: type[Learner]) -> Settings:
    """Return ``settings`` with the policy's ε and δ, and secret noise, if the user chose none.

    Raises InvalidSetting, naming the policy and the option, for a learner that is not differentially
    private, for a larger budget and for noise that can be reproduced.
    """
    budget = policy.budget
    if budget is None:
        return settings
    policy.check_learner(kind)
    if not issubclass(kind, PrivateLearner):
        raise TypeError(f"policy {policy.name} accepted {kind.name}, which is not differentially private")
    given = {"epsilon": budget.epsilon, "delta": budget.delta, "noise": "secret", **settings.learner.options}
    chosen = kind.Options.of(given)
    for name, most in (("epsilon", budget.epsilon), ("delta", budget.delta)):
        if getattr(chosen, name) > most:
            raise InvalidSetting(
                f"learner.options.{name} is {getattr(chosen, name):g}, policy {policy.name} allows {most:g}"
            )
    if chosen.noise != "secret":
        raise InvalidSetting(
            f"learner.options.noise is {chosen.noise}, policy {policy.name} requires secret: "
            "anyone who knows the seed can subtract seeded noise"
        )
    learner = settings.learner.model_copy(update={"options": given})
    return settings.model_copy(update={"learner": learner})


def _bound_residency(settings: Settings, policy: Policy) -> Settings:
    limit = policy.residency_seconds
    if limit is None:
        return settings
    stream, batch = settings.stream, settings.batch
    longest = INCOMPLETE_SHARE * limit
    if batch.linger >= longest:
        raise InvalidSetting(
            f"batch.linger {batch.linger:g}: under residency_seconds {limit:g} of policy {policy.name} "
            f"an incomplete batch is discarded after {longest:g} s and would never be learned; "
            "set a shorter linger"
        )
    if settings.labels.topic and settings.labels.wait >= longest:
        raise InvalidSetting(
            f"labels.wait {settings.labels.wait:g}: under residency_seconds {limit:g} of policy "
            f"{policy.name} a sample is discarded after {longest:g} s, to be read again, and would never get "
            "a later label; set a shorter wait"
        )
    stream = stream.model_copy(update={"fetch_bytes": min(stream.fetch_bytes, FETCH_BYTES)})
    batch = batch.model_copy(update={"slots": min(batch.slots, max(2, READ_AHEAD // batch.size))})
    return settings.model_copy(update={"stream": stream, "batch": batch})


def _check_samples(policy: Policy, settings: Settings, kind: type[Learner]) -> None:
    if kind.retains is not Retention.SAMPLES or policy.samples is None:
        return
    capacity = getattr(kind.Options.of(settings.learner.options), "capacity", None)
    if capacity is None:
        raise InvalidSetting(
            f"learner {kind.name} keeps samples and has no option capacity: policy {policy.name} cannot "
            f"limit it to {policy.samples.capacity}"
        )
    if capacity > policy.samples.capacity:
        raise InvalidSetting(
            f"learner.options.capacity: {kind.name} would keep {capacity} samples, "
            f"policy {policy.name} allows {policy.samples.capacity}"
        )
    if not issubclass(kind, Expires):
        raise InvalidSetting(
            f"learner {kind.name} keeps samples and cannot delete old ones (it is not a lethe.Expires): "
            f"policy {policy.name} cannot limit it to {policy.samples.ttl_seconds:g} s"
        )


def check_leftovers(policy: Policy, folder: Path, running: type[Learner]) -> None:
    """Raise InvalidSetting, naming the file, if a checkpoint left by an earlier run retains too much.

    Such checkpoints were set aside by ``--fresh`` or could not be read; a service deletes neither by
    itself. The age of a file is a lower bound on the age of the samples in it. A learner of another
    package is not imported because a file names it: unless it is the ``running`` one, it counts as one
    that keeps samples.
    """
    for path in leftover_checkpoints(folder):
        retention = _retention(path, running)
        if retention is not None and not policy.allows(retention):
            raise InvalidSetting(
                f"{path} keeps {retention.value}, policy {policy.name} allows {policy.retention.value}: "
                "delete it, or give this run a --state folder of its own"
            )
        age = time.time() - path.stat().st_mtime
        if policy.samples is not None and retention in {None, Retention.SAMPLES}:
            limit = policy.samples.ttl_seconds
            if age > limit:
                raise InvalidSetting(
                    f"{path} may keep samples and is {age:.0f} s old; policy {policy.name} allows "
                    f"{limit:g} s: delete it"
                )


def _retention(path: Path, running: type[Learner]) -> Retention | None:
    """Return the most that the learner in a checkpoint may keep; None if it is unknown."""
    try:
        name = read_learner_name(path)
    except InvalidFile:  # damaged
        return None
    known = LEARNERS | {running.name: running}
    if name in known:
        return known[name].retains
    if name in {plugin.name for plugin in plugins()}:
        return Retention.SAMPLES
    return None  # no longer installed
