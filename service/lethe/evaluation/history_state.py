"""The state of a history, as dataclasses whose fields are their JSON."""

from dataclasses import dataclass, field, replace
from typing import Final

from lethe.evaluation.estimated_accuracy import EstimatedAccuracy
from lethe.evaluation.prequential import Prequential
from lethe.evaluation.segments import SegmentTracker, Switch
from lethe.evaluation.thinned import Thinned
from lethe.evaluation.windows import WINDOW, Window
from lethe.events import Reading

__all__ = [
    "CLASS_POINTS",
    "CURVE_POINTS",
    "Boundary",
    "ByClass",
    "HistoryState",
    "Point",
    "Regime",
    "Switch",
    "Unconfirmed",
]

CURVE_POINTS: Final = 1024
"""Evaluations kept of the curve, besides one per segment."""
CLASS_POINTS: Final = 128
"""Evaluations kept by class, which take much more room."""


@dataclass(frozen=True, slots=True)
class Point:
    """One evaluation of the curve; ``accuracy``, ``on_subset`` and ``ece`` are in the order of the probes.

    ``scores`` holds the scores that were defined after it, by name.
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
    """One evaluation by class: for each probe, in order, the accuracy on each class."""

    samples: int
    full: bool
    accuracy: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Boundary:
    """A boundary that ``signal`` detected after ``samples`` learned samples.

    The evidence was sufficient ``late`` samples earlier, within the batch that was then learned.
    """

    samples: int
    signal: str
    late: int = 0


@dataclass(frozen=True, slots=True)
class Regime:
    """The regime assigned after ``samples`` learned samples."""

    samples: int
    regime: int


@dataclass(slots=True)
class Unconfirmed:
    """What undoes an unconfirmed switch: the values before it, and the evaluations since."""

    minima: dict[str, float]
    best: dict[str, float]
    windows: list[Window]
    anytime_sum: float
    anytime_count: int
    points: list[Point] = field(default_factory=list)


@dataclass(slots=True)
class HistoryState:
    """The state of a `History`; ``windows`` holds one window of ``w`` evaluations for each probe."""

    probes: tuple[str, ...]
    w: int = WINDOW
    prequential: Prequential = field(default_factory=Prequential)
    estimated: EstimatedAccuracy = field(default_factory=EstimatedAccuracy)
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
    """Best accuracy on the subset of each probe, while no segment has been named."""
    windows: list[Window] = field(default_factory=list)
    last: Point | None = None
    readings: tuple[Reading, ...] = ()
    """Results of the last evaluation on each probe."""
    anytime_sum: float = 0.0
    anytime_count: int = 0
    tracker: SegmentTracker = field(default_factory=SegmentTracker)
    unconfirmed: Unconfirmed | None = None
    """Set while the latest switch is unconfirmed."""
    withdrawn_at: int | None = None
    """Samples learned when a switch was last withdrawn."""
    began: int = 0
    """Samples learned before the first evaluation: by other services, whose states were merged."""

    def __post_init__(self) -> None:
        """Create a window for each probe. Raises ValueError for w below 2."""
        self.windows = self.windows or [Window(self.w) for _ in self.probes]

    @property
    def visits(self) -> list[int | None]:
        """The probe (column of R) of each segment; None for a segment without one."""
        column = {name: j for j, name in enumerate(self.probes)}
        return [column.get(switch.segment) for switch in self.switches]

    def track_from_here(self) -> None:
        """Start the tracker in a state from a checkpoint without one."""
        samples = self.prequential.samples
        self.tracker = SegmentTracker(samples=samples, steady_at=samples)
        if self.switches:
            last, tracker = self.switches[-1], self.tracker
            tracker.current = tracker.run = last.segment
            tracker.began, tracker.length = last.samples, tracker.least

    def undo(self) -> Unconfirmed:
        """Return what is needed to undo a switch."""
        windows = [replace(window, recent=list(window.recent)) for window in self.windows]
        return Unconfirmed(
            dict(self.minima),
            dict(self.best),
            windows,
            self.anytime_sum,
            self.anytime_count,
        )
