"""What a history remembers: dataclasses whose fields are their JSON."""

from dataclasses import dataclass, field
from typing import Final

from service.evaluation.prequential import Prequential
from service.evaluation.thinned import Thinned
from service.evaluation.windows import WINDOW, Window
from service.events import Reading

__all__ = ["CLASS_POINTS", "CURVE_POINTS", "Boundary", "ByClass", "Memory", "Point", "Regime", "Switch"]

CURVE_POINTS: Final = 1024
"""Evaluations kept for the curve, besides one a segment."""
CLASS_POINTS: Final = 128
"""Evaluations kept class by class, which takes many times the room."""


@dataclass(frozen=True, slots=True)
class Point:
    """One evaluation of the curve; ``accuracy``, ``on_subset`` and ``ece`` have the order of the probes.

    ``scores`` are those that were defined after it, by name.
    """

    samples: int
    accuracy: tuple[float, ...]
    on_subset: tuple[float, ...]
    ece: tuple[float, ...]
    full: bool
    visit: int
    ends_segment: bool
    prequential_fading: float | None
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ByClass:
    """One evaluation class by class: of each probe, in their order, the accuracy on each class."""

    samples: int
    full: bool
    accuracy: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Switch:
    """A segment started after ``samples`` samples had been learned."""

    samples: int
    segment: str


@dataclass(frozen=True, slots=True)
class Boundary:
    """``signal`` told, once ``samples`` samples had been learned, that the subject has changed."""

    samples: int
    signal: str


@dataclass(frozen=True, slots=True)
class Regime:
    """After ``samples`` samples it was told that number ``regime`` goes on."""

    samples: int
    regime: int


@dataclass(slots=True)
class Memory:
    """All of it; ``windows`` has one for each probe, of ``w`` evaluations."""

    probes: tuple[str, ...]
    w: int = WINDOW
    prequential: Prequential = field(default_factory=Prequential)
    switches: list[Switch] = field(default_factory=list)
    boundaries: list[Boundary] = field(default_factory=list)
    regimes: list[Regime] = field(default_factory=list)
    R: list[list[float]] = field(default_factory=list)
    landmarks: list[Point] = field(default_factory=list)
    curve: Thinned[Point] = field(default_factory=lambda: Thinned(CURVE_POINTS))
    by_class: Thinned[ByClass] = field(default_factory=lambda: Thinned(CLASS_POINTS))
    last_by_class: ByClass | None = None
    minima: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    """On the subset of each probe, while no segment has been named."""
    windows: list[Window] = field(default_factory=list)
    last: Point | None = None
    readings: tuple[Reading, ...] = ()
    """Of the last evaluation."""
    anytime_sum: float = 0.0
    anytime_count: int = 0

    def __post_init__(self) -> None:
        """Begin a window for each probe; raises ValueError for w below 2."""
        self.windows = self.windows or [Window(self.w) for _ in self.probes]
