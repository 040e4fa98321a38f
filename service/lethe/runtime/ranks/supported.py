"""What several ranks cannot do yet: refused at the start, by name and with the reason."""

import logging

from lethe.errors import InvalidSetting
from lethe.learners.base import Learner
from lethe.learners.capabilities import Capability, Pools
from lethe.learners.registry import find
from lethe.privacy.controls import load_controls
from lethe.runtime.factories import create_learner, device_of, with_learners_defaults
from lethe.settings import Settings

__all__ = ["check_before_start", "check_hosts", "check_ranks"]

logger = logging.getLogger("lethe")


def check_before_start(settings: Settings) -> None:
    """Raise InvalidSetting for what several ranks cannot do together, before any of them is started.

    It creates the learner to ask it, as each rank will do: a network may be what ranks cannot train together.
    """
    check_ranks(settings)
    settings = with_learners_defaults(settings)
    learner = create_learner(settings.learner, settings.sample, settings.batch.size)
    if isinstance(learner, Pools):
        learner.check_pooling()


def check_hosts(settings: Settings) -> None:
    """Raise InvalidSetting unless ranks on several machines may learn together; warn of what they send."""
    if settings.privacy.policy is not None and not settings.run.cluster_trusted:
        raise InvalidSetting(
            f"privacy.policy {settings.privacy.policy}: the ranks are on several machines, and what they "
            "send each other, sums over samples among it, is neither encrypted nor protected by a password: "
            "with run.cluster_trusted you declare that nobody else is on that network"
        )
    logger.warning(
        "the ranks are on several machines: what they send each other, sums over samples among it, is "
        "neither encrypted nor protected by a password; anyone on that network can read it and join"
    )


def _check_policy(settings: Settings, kind: type[Learner]) -> None:
    """Raise InvalidSetting for what several ranks cannot do under a policy."""
    controls = load_controls(settings.privacy)
    if controls.residency_seconds is None:
        return
    limit = f"residency_seconds {controls.residency_seconds:g} of policy {controls.policy_name}"
    if issubclass(kind, Pools) and kind.exchanged_of_samples:
        raise InvalidSetting(
            f"learner.name {kind.name}: under {limit} no sample may be elsewhere, and the ranks send each "
            f"other {kind.exchanged_of_samples}"
        )
    if not settings.batch.linger:
        raise InvalidSetting(
            f"batch.linger 0: under {limit} no batch may wait without limit for those of other ranks; with a "
            "linger, a rank is not waited for that has had nothing to read for so long"
        )


def check_ranks(settings: Settings) -> None:
    """Raise InvalidSetting for what several ranks cannot do together."""
    kind = find(settings.learner.name)
    if why_not := kind.why_not(Capability.POOLS):
        raise InvalidSetting(f"learner.name {kind.name}: several ranks cannot learn it together: {why_not}")
    if (rounds := settings.run.average_every) > 1 and issubclass(kind, Pools) and kind.no_local_steps:
        raise InvalidSetting(
            f"run.average_every {rounds}: ranks cannot learn {kind.name} in steps of their own: "
            f"{kind.no_local_steps}"
        )
    _check_policy(settings, kind)
    if settings.stream.world > 1:
        raise InvalidSetting(
            f"stream.world {settings.stream.world}: it divides a topic between services that learn apart; "
            "ranks that learn together divide the partitions among themselves"
        )
    if settings.labels.names is not None or settings.labels.max_classes is not None:
        raise InvalidSetting(
            "labels.names, labels.max_classes: several ranks take numbers as labels yet; names would have to "
            "be numbered alike in all of them"
        )
    if settings.sample.features is not None and "spread" not in settings.learner.options:
        raise InvalidSetting(
            "learner.options: several ranks need the location and spread of vectors, which each would "
            "otherwise estimate from its own batches"
        )
    if settings.labels.unlabelled != "refuse":
        raise InvalidSetting(
            f"labels.unlabelled {settings.labels.unlabelled}: several ranks do not predict records without a "
            "label yet"
        )
    if settings.stream.predictions_topic:
        raise InvalidSetting(
            f"stream.predictions_topic {settings.stream.predictions_topic}: several ranks do not write "
            "predictions yet; only the first one would"
        )
    if device_of(settings.learner).type != "cpu":
        raise InvalidSetting(
            f"learner.device {settings.learner.device}: ranks add up their sums in main memory; use cpu"
        )
