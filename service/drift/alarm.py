"""River's Page-Hinkley test, whose state is plain numbers here and can be kept in a checkpoint."""

from dataclasses import dataclass
from typing import Final

from river.drift import PageHinkley
from river.stats import Mean

__all__ = ["Alarm", "AlarmState"]

_START: Final = float("inf")


@dataclass(frozen=True, slots=True)
class AlarmState:
    """All that counts of what a Page-Hinkley test for a rise remembers."""

    count: float = 0.0
    mean: float = 0.0
    increase: float = 0.0
    least_increase: float | None = None
    """None before the first value."""
    detected: bool = False


class Alarm:
    """Goes off when surprises add up: each counts by how much it exceeds their mean and ``slack``.

    Page 1954, Continuous Inspection Schemes. A single surprise counts for ``cap`` at most; with
    a lower ``threshold`` one batch can be enough.
    """

    def __init__(self, slack: float, threshold: float, cap: float) -> None:
        self._cap = cap
        self._test = PageHinkley(min_instances=1, delta=slack, threshold=threshold, alpha=1.0, mode="up")

    def hears(self, surprise: float) -> bool:
        """Take in a surprise; tell whether this is a boundary."""
        self._test.update(min(surprise, self._cap))
        return bool(self._test.drift_detected)

    def state(self) -> AlarmState:
        """Return what river's test remembers."""
        test, mean = self._test, self._test._x_mean
        least = None if test._min_increase == _START else test._min_increase
        return AlarmState(
            count=mean.n,
            mean=mean.get(),
            increase=test._sum_increase,
            least_increase=least,
            detected=test.drift_detected,
        )

    def load_state(self, state: AlarmState) -> None:
        """Go on from there, exactly."""
        test = self._test
        test._x_mean = Mean._from_state(state.count, state.mean)
        test._sum_increase = state.increase
        test._min_increase = _START if state.least_increase is None else state.least_increase
        test._drift_detected = state.detected
