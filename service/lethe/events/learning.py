"""Events about what the learner knows: segments, boundaries, regimes and evaluations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from lethe.events.scores import Scores

__all__ = [
    "MIN_SEGMENT",
    "BoundariesScored",
    "BoundaryDetected",
    "ClassesNamed",
    "Evaluated",
    "LossSurged",
    "Reading",
    "RegimeAssigned",
    "ScoresUpdated",
    "SegmentStarted",
    "SegmentWithdrawn",
    "SegmentWithoutProbe",
    "SegmentsCapped",
    "SegmentsMixed",
    "WeightsMoved",
]

MIN_SEGMENT: Final = 32
"""Default for the number of successive records with one name that make a segment."""


@dataclass(frozen=True, slots=True)
class SegmentStarted:
    """The next sample is the first of a segment: ground truth from the headers, not shown to learners."""

    name: str
    visit: int
    """1 for the first segment of the stream."""
    samples: int
    """Samples of the stream before the segment."""
    resumed: bool = False
    """The segment began before the service was restarted."""


@dataclass(frozen=True, slots=True)
class SegmentWithdrawn:
    """The latest segment is withdrawn: too few successive records carried its name."""

    name: str
    visit: int
    """Number of the segment that continues; 0 if there is none."""
    continues: str | None
    """Name of that segment."""


@dataclass(frozen=True, slots=True)
class SegmentsMixed:
    """Records of several names alternate so fast that no segment begins."""

    names: tuple[str, ...]
    least: int
    """Number of successive records with one name that make a segment."""


@dataclass(frozen=True, slots=True)
class SegmentsCapped:
    """The limit of segments is reached: ``name`` and all later segments count as the last one."""

    limit: int
    name: str


@dataclass(frozen=True, slots=True)
class SegmentWithoutProbe:
    """No probe has the name of a segment, so no score counts the segment."""

    name: str
    similar: str | None
    """A probe whose name differs only in case or white space."""
    probes: tuple[str, ...]
    segments: tuple[str, ...]
    """The distinct segments so far."""


@dataclass(frozen=True, slots=True)
class ClassesNamed:
    """Classes appeared in the stream: ``names`` are those of all classes so far, by number."""

    names: tuple[str, ...]
    before: int = 0
    """How many there were before; the others are new."""
    resumed: bool = False
    """They appeared before the service was restarted."""


@dataclass(frozen=True, slots=True)
class BoundaryDetected:
    """A boundary was detected in the samples themselves, without the headers."""

    signal: str
    """What detected it: "features", "error" or "loss"."""
    samples: int
    """Samples learned before the detection."""


@dataclass(frozen=True, slots=True)
class WeightsMoved:
    """The weights took a step; the numbers are those of `lethe.learners.motion.Motion`."""

    gradient: float
    step: float | None
    turn: float | None
    interference: float | None


@dataclass(frozen=True, slots=True)
class LossSurged:
    """The loss of the last batch was ``ratio`` times the usual one: what the network knows is in danger."""

    ratio: float
    samples: int
    """Samples learned so far, the batch included."""


@dataclass(frozen=True, slots=True)
class RegimeAssigned:
    """The samples since the last boundary were assigned to regime number ``regime``."""

    regime: int
    """1 for the first regime of the stream."""
    returned: bool
    """The regime was assigned before: it has returned."""
    samples: int
    """Samples learned before the assignment."""
    resumed: bool = False
    """The assignment was made before the service was restarted."""


@dataclass(frozen=True, slots=True)
class BoundariesScored:
    """Detected boundaries and assigned regimes so far, scored against the segments that the headers name."""

    found: int
    """Switches that were detected."""
    missed: int
    """Switches that were not detected before the next one."""
    awaited: bool
    """The latest switch has not been detected yet."""
    false_alarms: int
    """Boundaries detected without a switch."""
    delay: int | None
    """Samples from the latest detected switch to its detection; None before the first."""
    returns: int
    """Visits to a segment that was visited before."""
    recognised: int
    """Returns that were assigned the segment's earlier regime."""
    mistaken: int
    """First visits to a segment that were assigned an earlier regime."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of one evaluation on one probe."""

    accuracy: float
    on_subset: float
    """Accuracy on the probe's fixed subset: the same images in every evaluation, full or not."""
    by_class: tuple[float | None, ...]
    """Accuracy on the images of each class, None for a class without images; empty for too many classes."""
    ece: float
    """Expected calibration error."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The learner was evaluated on every probe.

    ``readings`` maps each probe to its result, in the order of the probes. ``full`` is true for an
    evaluation on whole probes, false for one on their subsets. ``visit`` is the number of the segment being
    learned (0 before the first). ``ends_segment`` is true if that segment has just ended: the evaluation is
    then row ``visit`` of R. ``images`` maps each probe to the number of its images that were used.
    ``feature_bytes`` is the memory that keeps features of probe images for the next evaluation.
    """

    samples: int
    readings: Mapping[str, Reading]
    full: bool
    visit: int
    segment: str | None
    ends_segment: bool
    seconds: float
    images: Mapping[str, int] = field(default_factory=dict)
    feature_bytes: int = 0

    @property
    def accuracy(self) -> dict[str, float]:
        """Accuracy on each probe."""
        return {probe: reading.accuracy for probe, reading in self.readings.items()}


@dataclass(frozen=True, slots=True)
class ScoresUpdated:
    """The scores and the accuracy matrix after an evaluation.

    ``R`` has one row for the untrained learner and one for each ended segment, and one column per probe.
    """

    samples: int
    readings: Mapping[str, Reading]
    """Result of this evaluation on each probe."""
    scores: Scores
    forgetting_by_probe: Mapping[str, float]
    """How far each old probe is below its best; every probe while no segment has been named."""
    R: Sequence[Sequence[float]]
    segments: Sequence[str]
    """The segments visited so far, in order; row i of ``R`` follows ``segments[i - 1]``."""
    probes: Sequence[str]

    @property
    def accuracy(self) -> dict[str, float]:
        """Accuracy on each probe."""
        return {probe: reading.accuracy for probe, reading in self.readings.items()}
