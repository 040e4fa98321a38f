"""Learners of other packages: what their distributions offer as entry points ``lethe.learners``.

In the pyproject.toml of such a package::

    [project.entry-points."lethe.learners"]
    styx = "my_package.styx:Styx"
"""

import inspect
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from service.errors import InvalidSetting
from service.learners.base import Learner

__all__ = ["GROUP", "Plugin", "plugins"]

GROUP: Final = "lethe.learners"
"""The entry point group."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A learner that an installed distribution offers; its code is not imported before `load`."""

    name: str
    distribution: str
    entry: EntryPoint

    def load(self) -> type[Learner]:
        """Return the learner's class.

        Raises InvalidSetting, naming the distribution, when importing it fails, or when it is no
        learner of that name.
        """
        try:
            kind = self.entry.load()
        except Exception as error:  # whatever the code of others raises
            raise self._broken(
                f"{self.entry.value} cannot be loaded, {type(error).__name__}: {error}"
            ) from error
        if not (inspect.isclass(kind) and issubclass(kind, Learner)):
            raise self._broken(f"{self.entry.value} is no service.learners.base.Learner")
        missing = [about for about in ("retains", "summary", "paper") if not hasattr(kind, about)]
        missing += sorted(kind.__abstractmethods__)
        if missing:
            raise self._broken(f"{self.entry.value} lacks {', '.join(missing)}")
        if getattr(kind, "name", None) != self.name:
            raise self._broken(f"{self.entry.value} calls itself {getattr(kind, 'name', None)!r}")
        return kind

    def _broken(self, why: str) -> InvalidSetting:
        return InvalidSetting(f"learner {self.name!r} of the distribution {self.distribution}: {why}")


def plugins() -> list[Plugin]:
    """Return what the installed distributions offer, by name."""
    found = (
        Plugin(entry.name, "unknown" if entry.dist is None else entry.dist.name, entry)
        for entry in entry_points(group=GROUP)
    )
    return sorted(found, key=lambda plugin: (plugin.name, plugin.distribution))
