"""What earlier runs left in a state folder, held against the policy: it is not this run that keeps it."""

import time
from pathlib import Path

from service.checkpoint import learner_in
from service.errors import InvalidFile, InvalidSetting
from service.learners import find
from service.learners.base import Retention
from service.privacy.policy import Policy
from service.state_folder import leftovers

__all__ = ["check_leftovers"]


def check_leftovers(policy: Policy, folder: Path) -> None:
    """Raise InvalidSetting, naming the file, if a checkpoint beside the run's own keeps too much.

    These are checkpoints that ``--fresh`` set aside, and those that could not be read. A service deletes
    neither by itself. Of one that tells no learner, only its age is known, which is that of the youngest
    sample in it at least.
    """
    for path in leftovers(folder):
        kept = _retention(path)
        if kept is not None and not policy.allows(kept):
            raise InvalidSetting(
                f"{path} keeps {kept.value}, policy {policy.name} allows {policy.retention.value}: "
                "delete it, or give this run a --state folder of its own"
            )
        age = time.time() - path.stat().st_mtime
        if policy.samples is not None and kept in {None, Retention.SAMPLES}:
            limit = policy.samples.ttl_seconds
            if age > limit:
                raise InvalidSetting(
                    f"{path} may keep samples, and is {age:.0f} s old; policy {policy.name} allows "
                    f"{limit:g} s: delete it"
                )


def _retention(path: Path) -> Retention | None:
    """Return what the learner in a checkpoint keeps; None where nobody can tell."""
    try:
        return find(learner_in(path)).retains
    except (InvalidFile, InvalidSetting):  # damaged, or of a learner that is not installed any more
        return None
