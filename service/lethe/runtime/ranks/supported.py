"""What several ranks cannot do yet: refused at the start, by name and with the reason."""

import logging

from lethe.errors import InvalidSetting
from lethe.learners.capabilities import Capability, Pools
from lethe.learners.registry import find
from lethe.runtime.factories import create_learner, device_of, with_learners_defaults
from lethe.settings import Settings

__all__ = ["check_before_start", "check_ranks"]

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
    if settings.privacy.policy is not None:
        raise InvalidSetting(
            f"privacy.policy {settings.privacy.policy}: a policy is not enforced in several ranks yet: only "
            "the first one purges, and what it promises of residency and of ε holds for one process"
        )
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
    if settings.labels.topic:
        raise InvalidSetting(f"labels.topic {settings.labels.topic}: several ranks do not join labels yet")
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
