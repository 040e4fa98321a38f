"""The questions that the dashboards begin with, answered for one run."""

from dataclasses import dataclass
from typing import Final, Literal

from lethe.evaluation.objective import BUDGET_SECONDS, DAYS, FORGOTTEN, losses
from lethe.events import SCORES
from lethe.observability.result import RunResult
from lethe.report.formatting import UNDEFINED, number, percent, points, seconds

__all__ = ["LEARNS", "LEFT", "LOST", "Limits", "Sign", "vital_signs"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Values from which a sign is doubtful and bad; ``below`` if small values are bad."""

    doubtful: float
    bad: float
    below: bool = False

    def verdict(self, value: float) -> Literal["good", "doubtful", "bad"]:
        """Return what ``value`` means."""
        if value < self.bad if self.below else value >= self.bad:
            return "bad"
        return "doubtful" if (value < self.doubtful if self.below else value >= self.doubtful) else "good"


LOST: Final = Limits(FORGOTTEN / 2, FORGOTTEN)
"""For a loss of accuracy: bad from the loss on that counts as forgetting."""
LEFT: Final = Limits(0.5, 0.0, below=True)
"""For the budget that is left: bad once it is spent."""
LEARNS: Final = Limits(0.5, 0.2, below=True)
"""For the accuracy on the stream: bad near the chance of ten classes."""


@dataclass(frozen=True, slots=True)
class Sign:
    """The answer to one question."""

    question: str
    value: str
    about: str
    verdict: Literal["good", "doubtful", "bad", "unknown"]


def vital_signs(run: RunResult) -> list[Sign]:
    """Return whether a run forgets, what is left of its forgetting budget, and whether it learns."""
    return [_forgets(run), _budget(run), _learns(run)]


def _forgets(run: RunResult) -> Sign:
    question = "Is it forgetting?"
    now = run.evaluations[-1].accuracy if run.evaluations else {}
    lost = losses(now, {name: f for name, f in run.forgetting_by_probe.items() if name in now})
    if not lost:
        return Sign(question, UNDEFINED, "nothing to forget yet", "unknown")
    worst = max(lost, key=lambda name: lost[name])
    noise = f", ± {points(run.noise[worst]).lstrip('+')} of noise" if worst in run.noise else ""
    about = f"points below its best: {worst}{noise}"
    return Sign(question, points(-lost[worst]), about, LOST.verdict(lost[worst]))


def _budget(run: RunResult) -> Sign:
    question = f"{SCORES['forgetting'].label} budget left"
    left = run.forgetting_budget_left
    if left is None:
        return Sign(question, UNDEFINED, "no skill is old yet", "unknown")
    about = (
        f"an old skill was below its floor for {seconds((1 - left) * BUDGET_SECONDS)}; "
        f"the budget is {seconds(BUDGET_SECONDS)} in {DAYS} days"
    )
    shown = percent(left) if left > -1 else f"\N{MINUS SIGN}{number(-100 * left)}\N{NARROW NO-BREAK SPACE}%"
    return Sign(question, shown, about, LEFT.verdict(left))


def _learns(run: RunResult) -> Sign:
    question, now = "Is it learning?", run.fading_accuracy
    if now is None:
        return Sign(question, UNDEFINED, "not measured", "unknown")
    guessing = "" if run.chance_accuracy is None else f"; guessing gives {percent(run.chance_accuracy)}"
    about = f"accuracy on the latest samples before they were learned{guessing}"
    return Sign(question, percent(now), about, LEARNS.verdict(now))
