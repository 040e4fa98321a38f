"""Windowed forgetting and plasticity: the largest drop and rise within a few evaluations (De Lange 2023)."""

from dataclasses import dataclass, field
from typing import Final

__all__ = ["WINDOW", "Window"]

WINDOW: Final = 10
"""w: the number of evaluations in a window, as in De Lange et al."""


@dataclass(slots=True)
class Window:
    """The largest change of the accuracy on one probe within any ``w`` evaluations so far.

    Each evaluation is compared with the w − 1 before it, so both maxima cover every pair that ever shared a
    window, in constant time and memory. The fields are the JSON.

    De Lange, van de Ven & Tuytelaars 2023, Continual Evaluation for Lifelong Learning: WF^w is
    the mean of ``drop`` over the probes, WP^w of ``rise``:

        rise = max A(E_j, f_n) − A(E_j, f_m) over all m < n < m + w
        drop = max A(E_j, f_m) − A(E_j, f_n) over all b_j ≤ m < n < m + w

    b_j is the last evaluation before the segment of the probe is first learned, where `begin` is called:
    before it, the accuracy can rise by transfer, but nothing can be forgotten. (The authors' code evaluates
    a task from its first iteration on, so their WF^w begins there as well.) Both grow with more frequent
    evaluations: report the cadence with them.

    >>> window = Window(w=2)
    >>> for accuracy in (1.0, 0.75, 0.25, 0.5):
    ...     window.add(accuracy)
    >>> window.drop, window.rise
    (0.5, 0.25)
    """

    w: int = WINDOW
    recent: list[float] = field(default_factory=list)
    """The latest w − 1 accuracies."""
    drop: float = 0.0
    """Largest drop; 0 for a probe whose accuracy never fell."""
    rise: float = 0.0
    """Largest rise."""
    untaught: int = 0
    """How many of the first items of ``recent`` come before b_j."""

    def __post_init__(self) -> None:
        """Raise ValueError for w below 2."""
        if self.w < 2:
            raise ValueError(f"w = {self.w}: a window needs at least 2 evaluations")

    def begin(self) -> None:
        """Set b_j to the latest evaluation: earlier drops do not count as forgetting."""
        self.drop, self.untaught = 0.0, max(0, len(self.recent) - 1)

    def add(self, accuracy: float) -> None:
        """Add the next evaluation."""
        self.drop = max([self.drop, *(before - accuracy for before in self.recent[self.untaught :])])
        self.rise = max([self.rise, *(accuracy - before for before in self.recent)])
        self.recent.append(accuracy)
        if len(self.recent) == self.w:
            del self.recent[0]
            self.untaught = max(0, self.untaught - 1)
