"""The objective on forgetting: floors, budget, sampling noise and chance.

The limits are those of ``deploy/prometheus/rules/decisions.yaml``, by which the rules and dashboards go.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final

__all__ = [
    "BUDGET_SECONDS",
    "DAYS",
    "FORGOTTEN",
    "LEARNED",
    "OBJECTIVE",
    "FloorTime",
    "chance_accuracy",
    "losses",
    "sampling_noise",
    "within_floors",
]

FORGOTTEN: Final = 0.1
"""Loss of a probe's best accuracy that counts as forgetting: its floor is that far below its best."""
LEARNED: Final = 0.5
"""A probe whose best accuracy is below this was never learned: it has no floor, and cannot be forgotten."""
OBJECTIVE: Final = 0.99
"""Share of the time in which every old skill is to be within its floor. The rest is the forgetting budget."""
DAYS: Final = 30
"""Days over which the time counts."""
DAY: Final = 86400
"""Seconds of a day."""
BUDGET_SECONDS: Final = (1 - OBJECTIVE) * DAYS * DAY
"""The forgetting budget: time in `DAYS` days in which an old skill may be below its floor."""


def losses(accuracy: Mapping[str, float], forgetting: Mapping[str, float]) -> dict[str, float]:
    """Return how far each probe with a floor is below its best: within it up to `FORGOTTEN`.

    ``forgetting`` is that of every old probe, ``accuracy`` the accuracy in the same evaluation.

    >>> losses({"a": 0.5, "b": 0.1, "c": 0.9}, {"a": 0.25, "b": 0.125})
    {'a': 0.25}
    """
    return {probe: lost for probe, lost in forgetting.items() if accuracy[probe] + lost >= LEARNED}


def within_floors(accuracy: Mapping[str, float], forgetting: Mapping[str, float]) -> bool | None:
    """Return whether every skill with a floor is within it; None if none has one. Arguments as of `losses`.

    >>> within_floors({"a": 0.85, "b": 0.9}, {"a": 0.05, "b": 0.0}), within_floors({"a": 0.1}, {"a": 0.2})
    (True, None)
    """
    lost = losses(accuracy, forgetting)
    return max(lost.values()) <= FORGOTTEN if lost else None


@dataclass(frozen=True, slots=True)
class FloorTime:
    """How long an old skill had a floor, and how long one was below its floor, in the last `DAYS` days.

    An evaluation counts until the next one. ``days`` holds, oldest first, the number of each day since 1970
    with the seconds in which a skill had a floor, and those of them in which one was below it.
    """

    days: tuple[tuple[int, float, float], ...] = ()

    def after(self, seconds: float, until: float, *, within: bool) -> "FloorTime":
        """Add ``seconds`` that end ``until`` seconds after 1970; days that are too long ago are left out.

        >>> FloorTime().after(86400, 2.25 * 86400, within=False).days
        ((1, 64800.0, 64800.0), (2, 21600.0, 21600.0))
        """
        today = int(until // DAY)
        oldest = today - DAYS + 1
        days = {day: (floors, below) for day, floors, below in self.days if day >= oldest}
        begin = max(until - seconds, float(oldest * DAY))
        for day in range(int(begin // DAY), today + 1):
            spent = min(until, (day + 1.0) * DAY) - max(begin, float(day * DAY))
            floors, below = days.get(day, (0.0, 0.0))
            days[day] = (floors + spent, below if within else below + spent)
        return FloorTime(tuple((day, *days[day]) for day in sorted(days)))

    @property
    def share_within(self) -> float | None:
        """The share of the time in which every old skill was within its floor; None before one had one."""
        floors, below = (sum(day[place] for day in self.days) for place in (1, 2))
        return 1 - below / floors if floors else None

    @property
    def budget_left(self) -> float | None:
        """1 is an untouched budget, 0 a spent one; below 0 the objective is missed. None as for the share."""
        return 1 - sum(below for _, _, below in self.days) / BUDGET_SECONDS if self.days else None


def sampling_noise(accuracy: float, images: int) -> float:
    """Return two standard errors of an accuracy on ``images`` images: a smaller loss is none.

    >>> round(sampling_noise(0.9, 1000), 4)
    0.019
    """
    return 2 * sqrt(accuracy * (1 - accuracy) / images)


def chance_accuracy(by_class: Iterable[Sequence[float | None]]) -> float | None:
    """Return the accuracy of guessing: 1 divided by the number of classes that a probe has images of.

    ``by_class`` holds the accuracies on each class of each probe. None if no class was evaluated.

    >>> chance_accuracy([(0.5, None, 0.25), (0.5, 0.1, 0.3, 0.4)])
    0.25
    """
    most = max((sum(right is not None for right in classes) for classes in by_class), default=0)
    return 1 / most if most else None
