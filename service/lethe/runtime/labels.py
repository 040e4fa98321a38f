"""What the labels of a run are: numbers, the names in a file, or names that are collected as they appear."""

from dataclasses import dataclass
from typing import Final

from lethe.errors import InvalidSetting
from lethe.probeset import ProbeSet, class_names
from lethe.settings import Settings
from lethe.wire.class_names import read_class_names

__all__ = ["Labels", "load_labels"]

MOST_NAMES: Final = 1000
"""Every batch carries the names."""


@dataclass(frozen=True)
class Labels:
    """The names that are known before the first record; None where labels are numbers."""

    names: tuple[str, ...] | None = None
    collected: bool = False
    """Whether further names are collected as they appear."""

    def shown(self, probes: list[ProbeSet]) -> tuple[str, ...]:
        """Return the names of the classes at the start; numbers can have names in the probes alone."""
        return class_names(probes) if self.names is None else self.names


def load_labels(settings: Settings) -> tuple[Settings, Labels]:
    """Return what the labels are, and ``settings`` with their number as the number of classes.

    Raises InvalidSetting for a number of classes that does not fit the names, InvalidFile for a file of names
    that cannot be read.
    """
    chosen = settings.labels
    if chosen.names is None and chosen.max_classes is None:
        return settings, Labels()
    names = () if chosen.names is None else read_class_names(chosen.names)
    if len(names) > MOST_NAMES:
        raise InvalidSetting(f"labels.names {chosen.names} has {len(names)} names, {MOST_NAMES} are allowed")
    most = chosen.max_classes or len(names)
    if not max(2, len(names)) <= most:
        raise InvalidSetting(
            f"labels.names {chosen.names} has {len(names)} names: there must be two classes or more, and no "
            f"more names than labels.max_classes, {most}"
        )
    given = settings.sample.model_fields_set
    if "classes" in given and settings.sample.classes != most:
        raise InvalidSetting(
            f"sample.classes is {settings.sample.classes}, and labels.names and labels.max_classes make "
            f"{most}: leave it out"
        )
    sample = settings.sample.model_copy(update={"classes": most})
    return settings.model_copy(update={"sample": sample}), Labels(names, collected=len(names) < most)
