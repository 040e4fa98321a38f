"""What the learner knows, and where the stream changed its subject."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["BoundaryDetected", "Evaluated", "Measured", "Scores", "SegmentStarted"]


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
class Evaluated:
    """The learner was measured on every probe.

    ``accuracy`` maps each probe, in the probes' own order, to its accuracy. ``full`` tells the
    whole probes from the fixed subset. ``visit`` is the number of the segment being learned (0
    before the first) and ``ends_segment`` whether that segment has just ended: such an
    evaluation is row ``visit`` of R.
    """

    samples: int
    accuracy: Mapping[str, float]
    full: bool
    visit: int
    segment: str | None
    ends_segment: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Scores:
    """Continual-learning metrics so far; definitions in `service.evaluation.forgetting`.

    A value is None while it is not defined yet (BWT before the second segment has ended).
    """

    acc: float | None
    bwt: float | None
    fwt: float | None
    forgetting: float | None
    forgetting_by_probe: Mapping[str, float]
    min_acc: float | None
    wc_acc: float | None
    anytime_accuracy: float | None
    prequential_accuracy: float | None
    prequential_fading: float | None


@dataclass(frozen=True, slots=True)
class Measured:
    """The scores and the accuracy matrix after an evaluation.

    ``R`` has a row for the untrained learner and one for each ended segment, a column a probe.
    """

    samples: int
    accuracy: Mapping[str, float]
    """Of each probe, in this evaluation."""
    scores: Scores
    R: Sequence[Sequence[float]]
    segments: Sequence[str]
    """The segments visited so far, in order; row i of ``R`` follows ``segments[i - 1]``."""
    probes: Sequence[str]
