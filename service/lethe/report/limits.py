"""Compares the result of a run with limits, as a gate in somebody's CI does."""

from collections.abc import Iterator
from dataclasses import dataclass

from lethe.events import SCORES
from lethe.observability.result import RunResult

__all__ = ["Check", "Limits", "check_run"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of scores, as ratios; None for one that does not matter."""

    max_forgetting: float | None = None
    """Of every old probe."""
    min_acc: float | None = None
    min_bwt: float | None = None
    min_wc_acc: float | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison. ``measured`` is None for what was not measured, which never passes."""

    what: str
    measured: float | None
    limit: float
    at_most: bool

    @property
    def passed(self) -> bool:
        """Whether the limit is kept; the limit itself is allowed."""
        if self.measured is None:
            return False
        return self.measured <= self.limit if self.at_most else self.measured >= self.limit


def check_run(run: RunResult, limits: Limits) -> Iterator[Check]:
    """Yield the comparisons of a run with its limits: one for each old probe and each score."""
    if limits.max_forgetting is not None:
        lost: dict[str, float | None] = {**run.forgetting_by_probe} or {"any old probe": None}
        for probe, forgetting in lost.items():
            yield Check(f"forgetting of {probe}", forgetting, limits.max_forgetting, at_most=True)
    for name, least in (("acc", limits.min_acc), ("bwt", limits.min_bwt), ("wc_acc", limits.min_wc_acc)):
        if least is not None:
            yield Check(SCORES[name].label, getattr(run, name), least, at_most=False)
