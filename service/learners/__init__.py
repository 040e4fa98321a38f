"""The learners there are: one algorithm a file, listed in `LEARNERS`."""

from typing import Final

from service.errors import InvalidSetting
from service.learners.base import Learner, LearnerContext
from service.learners.finetune import Finetune
from service.learners.ridge import Ridge

__all__ = ["LEARNERS", "create"]

LEARNERS: Final[dict[str, type[Learner]]] = {kind.name: kind for kind in (Finetune, Ridge)}
"""Every learner by the name that ``--learner`` calls it; each is built from a context alone."""


def create(name: str, context: LearnerContext) -> Learner:
    """Return a new learner.

    Raises InvalidSetting when there is none of that name, ValueError when the learner cannot
    take images of the context's layout.
    """
    kind = LEARNERS.get(name)
    if kind is None:
        raise InvalidSetting(f"learner {name!r} does not exist: there are {', '.join(LEARNERS)}")
    return kind(context)
