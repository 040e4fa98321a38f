"""Windowed forgetting and plasticity: the largest drop and rise within a few evaluations (De Lange 2023)."""

from dataclasses import dataclass, field
from typing import Final

__all__ = ["WINDOW", "Window"]

WINDOW: Final = 10
"""w, the evaluations in a window, as De Lange et al. count them."""


@dataclass(slots=True)
class Window:
    """The largest change of one probe's accuracy within any ``w`` evaluations so far.

    An evaluation is compared with the w − 1 before it, so that after each both maxima are over
    every pair that ever shared a window, in constant time and memory. `begin` is said before the
    probe's subject is first learned: no pair reaches across it, and ``drop`` is of those after it
    alone. Its fields are its JSON.

    De Lange, van de Ven & Tuytelaars 2023, Continual Evaluation for Lifelong Learning: WF^w is
    the mean of ``drop`` over the probes, WP^w of ``rise``. Both grow with a finer cadence of
    evaluations: publish it beside them.

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
    """0 for a probe that never fell."""
    rise: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError for w below 2."""
        if self.w < 2:
            raise ValueError(f"w = {self.w}: a window of at least 2 evaluations can hold a change")

    def begin(self) -> None:
        """Begin at the latest evaluation: how the accuracy fell before it was no loss of knowledge."""
        self.drop, self.recent = 0.0, self.recent[-1:]

    def add(self, accuracy: float) -> None:
        """Take in the next evaluation."""
        self.drop = max([self.drop, *(before - accuracy for before in self.recent)])
        self.rise = max([self.rise, *(accuracy - before for before in self.recent)])
        self.recent = [*self.recent, accuracy][1 - self.w :]
