"""What the learner knows, and where the stream changed its subject."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = [
    "SCORES",
    "BoundariesJudged",
    "BoundaryDetected",
    "Evaluated",
    "Measured",
    "Reading",
    "RegimeTold",
    "Scores",
    "SegmentStarted",
]

SCORES: Final = (
    "acc",
    "bwt",
    "fwt",
    "forgetting",
    "min_acc",
    "wc_acc",
    "windowed_forgetting",
    "windowed_plasticity",
    "anytime_accuracy",
    "ece",
    "prequential_accuracy",
)
"""The fields of `Scores` that are one number, and those of a run's result of the same name."""


@dataclass(frozen=True, slots=True)
class SegmentStarted:
    """The first sample of a segment is about to be learned; ground truth, not for learners."""

    name: str
    visit: int
    """1 for the first segment of the stream."""
    samples: int
    """Samples learned before it."""
    resumed: bool = False
    """It is not new: the service was started again while it was being learned."""


@dataclass(frozen=True, slots=True)
class BoundaryDetected:
    """The stream's subject seems to have changed: found in the stream itself, not in its headers."""

    signal: str
    """What told of it: "features", "error" or "loss"."""
    samples: int
    """Samples learned before it was found."""


@dataclass(frozen=True, slots=True)
class RegimeTold:
    """The images since the last boundary are those of regime number ``regime``."""

    regime: int
    """1 for the first of the stream; an earlier number: it has come back."""
    returned: bool
    samples: int
    """Samples learned before it was told."""
    resumed: bool = False
    """It was told before the service was started again."""


@dataclass(frozen=True, slots=True)
class BoundariesJudged:
    """How well boundaries and regimes were found so far, against the segments that the headers name."""

    found: int
    missed: int
    """Switches that were not found before the next one."""
    awaited: bool
    """The latest switch has not been found yet."""
    false_alarms: int
    delay: int | None
    """Samples from the latest switch that was found until it was."""
    returns: int
    """Visits to a segment that was visited before."""
    recognised: int
    """Of them, those whose regime was told to be the one of before."""
    mistaken: int
    """First visits to a segment that were told to be a regime of before."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one evaluation found on one probe."""

    accuracy: float
    on_subset: float
    """Accuracy on the probe's fixed subset: the same images in every evaluation, full or not."""
    by_class: tuple[float | None, ...]
    """Accuracy on the images of each class, None where there are none; empty if classes are too many."""
    ece: float
    """Expected calibration error: how far confidence is from accuracy."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The learner was measured on every probe.

    ``readings`` are by probe, in the probes' own order. ``full`` tells the whole probes from the
    fixed subset. ``visit`` is the number of the segment being learned (0 before the first) and
    ``ends_segment`` whether that segment has just ended: such an evaluation is row ``visit`` of R.
    """

    samples: int
    readings: Mapping[str, Reading]
    full: bool
    visit: int
    segment: str | None
    ends_segment: bool
    seconds: float

    @property
    def accuracy(self) -> dict[str, float]:
        """Of each probe."""
        return {probe: reading.accuracy for probe, reading in self.readings.items()}


@dataclass(frozen=True, slots=True)
class Scores:
    """Continual-learning metrics so far; definitions in `service.evaluation`.

    A value is None while it is not defined yet (BWT before the second segment has ended).
    """

    acc: float | None
    bwt: float | None
    fwt: float | None
    forgetting: float | None
    forgetting_by_probe: Mapping[str, float]
    """Of each old probe; of every probe as long as no segment has been named."""
    min_acc: float | None
    wc_acc: float | None
    windowed_forgetting: float | None
    windowed_plasticity: float | None
    anytime_accuracy: float | None
    ece: float | None
    """Mean over the probes seen so far, as last measured."""
    prequential_accuracy: float | None
    prequential_fading: float | None

    def defined(self) -> dict[str, float]:
        """Return those of `SCORES` that are defined, by name."""
        values = {name: getattr(self, name) for name in SCORES}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Measured:
    """The scores and the accuracy matrix after an evaluation.

    ``R`` has a row for the untrained learner and one for each ended segment, a column a probe.
    """

    samples: int
    readings: Mapping[str, Reading]
    """Of each probe, in this evaluation."""
    scores: Scores
    R: Sequence[Sequence[float]]
    segments: Sequence[str]
    """The segments visited so far, in order; row i of ``R`` follows ``segments[i - 1]``."""
    probes: Sequence[str]

    @property
    def accuracy(self) -> dict[str, float]:
        """Of each probe."""
        return {probe: reading.accuracy for probe, reading in self.readings.items()}
