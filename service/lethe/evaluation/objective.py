"""The objective on forgetting: floors, budget, sampling noise and chance.

The limits are those of ``deploy/prometheus/rules/decisions.yaml``, by which the rules and dashboards go.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from typing import Final

__all__ = [
    "FORGOTTEN",
    "LEARNED",
    "OBJECTIVE",
    "budget_left",
    "chance_accuracy",
    "losses",
    "sampling_noise",
]

FORGOTTEN: Final = 0.1
"""Loss of a probe's best accuracy that counts as forgetting: its floor is that far below its best."""
LEARNED: Final = 0.5
"""A probe whose best accuracy is below this was never learned: it has no floor, and cannot be forgotten."""
OBJECTIVE: Final = 0.99
"""Share in which every old skill is to be within its floor. The rest is the forgetting budget."""


def losses(accuracy: Mapping[str, float], forgetting: Mapping[str, float]) -> dict[str, float]:
    """Return how far each probe with a floor is below its best: within it up to `FORGOTTEN`.

    ``forgetting`` is that of every old probe, ``accuracy`` the accuracy in the same evaluation.

    >>> losses({"a": 0.5, "b": 0.1, "c": 0.9}, {"a": 0.25, "b": 0.125})
    {'a': 0.25}
    """
    return {probe: lost for probe, lost in forgetting.items() if accuracy[probe] + lost >= LEARNED}


def budget_left(within_floor: float) -> float:
    """Return what is left of the budget if every old skill was within its floor in this share.

    1 is an untouched budget, 0 a spent one; below 0 the objective is missed.

    >>> [round(budget_left(share), 6) for share in (1.0, 0.995, 0.98)]
    [1.0, 0.5, -1.0]
    """
    return 1 - (1 - within_floor) / (1 - OBJECTIVE)


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
