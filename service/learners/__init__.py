"""The learners there are: one algorithm a file, listed in `LEARNERS`, and those of other packages."""

from typing import Final

from service.errors import InvalidSetting
from service.learners.agem import AGEM
from service.learners.base import Learner, LearnerContext
from service.learners.der import DarkReplay
from service.learners.dp_finetune import DPFinetune
from service.learners.dp_ridge import DPRidge
from service.learners.ewc import EWC
from service.learners.experts import Experts
from service.learners.finetune import Finetune
from service.learners.generative_replay import GenerativeReplay
from service.learners.lwf import LwF
from service.learners.mas import MAS
from service.learners.ncm import NCM
from service.learners.plugins import plugins
from service.learners.replay import Replay
from service.learners.ridge import Ridge
from service.learners.si import SI
from service.learners.slda import SLDA

__all__ = ["LEARNERS", "create", "find"]

LEARNERS: Final[dict[str, type[Learner]]] = {
    kind.name: kind
    for kind in (
        Finetune,
        Ridge,
        Experts,
        SLDA,
        NCM,
        DPFinetune,
        DPRidge,
        EWC,
        SI,
        MAS,
        LwF,
        GenerativeReplay,
        Replay,
        DarkReplay,
        AGEM,
    )
}
"""Every learner of ours by the name that ``--learner`` calls it; each is built from a context alone."""


def find(name: str) -> type[Learner]:
    """Return the class of a learner: ours, or else what an installed package offers under that name.

    Raises InvalidSetting when there is none, when two packages offer it, or when it is broken.
    """
    if name in LEARNERS:
        return LEARNERS[name]
    offered = [plugin for plugin in plugins() if plugin.name not in LEARNERS]
    found = [plugin for plugin in offered if plugin.name == name]
    if not found:
        there = ", ".join(dict.fromkeys([*LEARNERS, *(plugin.name for plugin in offered)]))
        raise InvalidSetting(f"learner {name!r} does not exist: there are {there}")
    if len(found) > 1:
        both = " and ".join(plugin.distribution for plugin in found)
        raise InvalidSetting(f"learner {name!r} is offered by {both}: uninstall all but one")
    return found[0].load()


def create(name: str, context: LearnerContext) -> Learner:
    """Return a new learner.

    Raises InvalidSetting when there is none of that name or an option is bad, ValueError when the
    learner cannot take images of the context's layout.
    """
    kind = find(name)
    kind.Options.of(context.options)  # also of a learner that never looks
    return kind(context)
