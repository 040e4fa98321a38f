"""When a solution is computed anew."""

from typing import Final

__all__ = ["RefreshSchedule", "samples_until_refresh"]

_GROWTH: Final = 3  # of the number of samples, until a solution is out of date


class RefreshSchedule:
    """Says after which batches `learn` solves, by the number of samples alone.

    So calls of `predict_proba`, which solve when they have to, do not change what `learn` returns.
    """

    def __init__(self, first: int, every: int) -> None:
        """The ``first`` solve is due after so many samples, later ones at each multiple of ``every``."""
        self._first, self._every = first, every
        self.since, self.due = 0, first
        """The number of samples at the last boundary, and that at which a solve is due."""

    def passed(self, samples: int) -> bool:
        """Return whether a solve is due after ``samples``, and if so schedule the next one."""
        if samples < self.due:
            return False
        self.due = min(samples + _GROWTH * (samples - self.since), (samples // self._every + 1) * self._every)
        return True

    def boundary(self, samples: int) -> None:
        """Start again after a boundary behind ``samples``."""
        self.since, self.due = samples, samples + self._first

    def shift(self, samples: int, by: int) -> None:
        """Take note that there are ``samples`` now, ``by`` more than before, without a batch learned."""
        self.since = min(self.since, samples)
        self.due += by


def samples_until_refresh(learned: int, every: int) -> int:
    """Return how many samples may be learned before a solution of ``learned`` samples is computed anew.

    It is computed when the number of samples has grown fourfold, and after ``every`` at the latest, which
    bounds the cost of solving per sample.
    """
    return min(_GROWTH * learned, every)
