"""The table of learners by name: those of this package, and those that other packages register.

A package registers its learner as an entry point of the group ``lethe.learners``, in its pyproject.toml::

    [project.entry-points."lethe.learners"]
    styx = "my_package.styx:Styx"
"""

import inspect
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from lethe.errors import InvalidSetting
from lethe.learners.analytic.experts import Experts
from lethe.learners.analytic.ncm import NCM
from lethe.learners.analytic.ridge import Ridge
from lethe.learners.analytic.slda import SLDA
from lethe.learners.base import Learner, LearnerContext
from lethe.learners.gradient.agem import AGEM
from lethe.learners.gradient.der import DarkReplay
from lethe.learners.gradient.ewc import EWC
from lethe.learners.gradient.finetune import Finetune
from lethe.learners.gradient.generative_replay import GenerativeReplay
from lethe.learners.gradient.lwf import LwF
from lethe.learners.gradient.mas import MAS
from lethe.learners.gradient.replay import Replay
from lethe.learners.gradient.si import SI
from lethe.learners.private.dp_finetune import DPFinetune
from lethe.learners.private.dp_ridge import DPRidge
from lethe.learners.river_model import PREFIX, river_learner

__all__ = ["GROUP", "LEARNERS", "Plugin", "create", "find", "plugins"]

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
"""Every learner of this package, by the name that ``--learner`` takes."""


GROUP: Final = "lethe.learners"
"""The entry point group."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A learner that an installed distribution registers; its code is not imported before `load`."""

    name: str
    distribution: str
    entry: EntryPoint

    def load(self) -> type[Learner]:
        """Return the learner's class.

        Raises InvalidSetting, naming the distribution, when the import fails or the object is not a learner
        of that name.
        """
        try:
            kind = self.entry.load()
        except Exception as error:  # the code of others may raise anything
            raise self._broken(
                f"{self.entry.value} cannot be loaded, {type(error).__name__}: {error}"
            ) from error
        if not (inspect.isclass(kind) and issubclass(kind, Learner)):
            raise self._broken(f"{self.entry.value} is not a lethe.Learner")
        missing = [about for about in ("retains", "summary", "paper") if not hasattr(kind, about)]
        missing += sorted(kind.__abstractmethods__)
        if missing:
            raise self._broken(f"{self.entry.value} lacks {', '.join(missing)}")
        if getattr(kind, "name", None) != self.name:
            raise self._broken(f"{self.entry.value} has the name {getattr(kind, 'name', None)!r}")
        return kind

    def _broken(self, why: str) -> InvalidSetting:
        return InvalidSetting(f"learner {self.name!r} of the distribution {self.distribution}: {why}")


def plugins() -> list[Plugin]:
    """Return the learners that installed distributions register, sorted by name."""
    found = (
        Plugin(entry.name, "unknown" if entry.dist is None else entry.dist.name, entry)
        for entry in entry_points(group=GROUP)
    )
    return sorted(found, key=lambda plugin: (plugin.name, plugin.distribution))


def find(name: str) -> type[Learner]:
    """Return the class of the learner ``name``: of this package, of river, or else of an installed one.

    Raises InvalidSetting when there is none, when two packages register it, or when it cannot be loaded,
    MissingExtra for ``river:MODULE.CLASS`` without river.
    """
    if name in LEARNERS:
        return LEARNERS[name]
    if name.startswith(PREFIX):
        return river_learner(name)
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

    Raises InvalidSetting for an unknown name or an invalid option, ValueError when the learner cannot take
    images of the context's layout.
    """
    kind = find(name)
    kind.Options.of(context.options)  # also for a learner that never reads them
    return kind(context)
