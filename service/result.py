"""What a finished run leaves behind: one JSON file, from which reports are drawn."""

import os
from pathlib import Path
from typing import Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    ValidationError,
    model_validator,
)

from service.boundaries import Boundaries
from service.document import Part
from service.errors import InvalidFile
from service.evaluation.history import History
from service.evaluation.windows import WINDOW
from service.events import SCORES

__all__ = [
    "SCORES",
    "ClassPoint",
    "EvaluationPoint",
    "PrequentialPoint",
    "PrivacyAccount",
    "RunResult",
    "SampleCounts",
    "SegmentSwitch",
    "ThroughputPoint",
]


class SampleCounts(Part):
    """Where every record of a batch that was dealt with went: received = learned + dead-lettered."""

    received: NonNegativeInt
    learned: NonNegativeInt
    discarded: NonNegativeInt
    dead_lettered: NonNegativeInt
    lost: NonNegativeInt
    """Offsets that the broker never served."""
    resident: NonNegativeInt
    """Still held by the service when the run ended."""
    kept: NonNegativeInt = 0
    """Samples of before that the learner keeps."""


class EvaluationPoint(Part):
    """What was measured on each probe after ``samples`` learned samples.

    ``on_subset`` is the accuracy on the probe's fixed subset alone, which windows compare, and
    ``ece`` the expected calibration error. ``scores`` are those of `SCORES` that were defined,
    as they were then. Runs of before they were kept have none of these.
    """

    samples: NonNegativeInt
    accuracy: dict[str, float]
    on_subset: dict[str, float] = Field(default_factory=dict)
    ece: dict[str, float] = Field(default_factory=dict)
    scores: dict[str, float] = Field(default_factory=dict)
    full: bool
    visit: NonNegativeInt
    ends_segment: bool

    @classmethod
    def of(cls, history: History) -> list[Self]:
        """Return the history's curve."""
        return [
            cls(
                samples=point.samples,
                accuracy=dict(zip(history.probes, point.accuracy, strict=True)),
                on_subset=dict(zip(history.probes, point.on_subset, strict=True)),
                ece=dict(zip(history.probes, point.ece, strict=True)),
                scores=point.scores,
                full=point.full,
                visit=point.visit,
                ends_segment=point.ends_segment,
            )
            for point in history.points
        ]


class ClassPoint(Part):
    """The accuracy on each class of each probe after ``samples`` learned samples; None of no images."""

    samples: NonNegativeInt
    full: bool
    accuracy: dict[str, list[float | None]]

    @classmethod
    def of(cls, history: History) -> list[Self]:
        """Return what the history has class by class."""
        return [
            cls(
                samples=point.samples,
                full=point.full,
                accuracy={
                    probe: list(classes)
                    for probe, classes in zip(history.probes, point.accuracy, strict=True)
                },
            )
            for point in history.by_class
        ]


class PrequentialPoint(Part):
    """The fading test-then-train accuracy after ``samples`` learned samples."""

    samples: NonNegativeInt
    accuracy: float

    @classmethod
    def of(cls, history: History) -> list[Self]:
        """Return the history's curve, from the first learned sample on."""
        return [
            cls(samples=point.samples, accuracy=point.prequential_fading)
            for point in history.points
            if point.prequential_fading is not None
        ]


class SegmentSwitch(Part):
    """``segment`` started after ``samples`` learned samples."""

    samples: NonNegativeInt
    segment: str

    @classmethod
    def of(cls, history: History) -> list[Self]:
        """Return every start of a segment."""
        return [cls(samples=switch.samples, segment=switch.segment) for switch in history.switches]


class PrivacyAccount(Part):
    """What a differentially private learner has spent: ``epsilon`` at ``delta``, of a ``budget`` of ε."""

    epsilon: NonNegativeFloat
    delta: NonNegativeFloat
    budget: NonNegativeFloat
    spent: bool
    """Another batch would have gone beyond the budget, so learning ended."""


class ThroughputPoint(Part):
    """Samples learned a second around the moment when ``samples`` had been learned."""

    samples: NonNegativeInt
    samples_per_second: NonNegativeFloat


class RunResult(Part):
    """One learner's way through one stream.

    Accuracies are ratios from 0 to 1, times are seconds. A score is None where it was not
    defined: `service.evaluation.forgetting` says when.
    """

    learner: str
    retains: str
    summary: str
    seed: int
    scenario: str | None
    broker: str
    segments: list[str]
    """Visited, in order; row i of ``R`` follows ``segments[i - 1]``."""
    probes: list[str]
    """The columns of ``R``."""
    R: list[list[float]]
    acc: float | None
    bwt: float | None
    fwt: float | None
    forgetting: float | None
    forgetting_by_probe: dict[str, float]
    min_acc: float | None
    wc_acc: float | None
    windowed_forgetting: float | None = None
    windowed_plasticity: float | None = None
    anytime_accuracy: float | None
    ece: float | None = None
    """Mean over the probes seen, as last measured."""
    prequential_accuracy: float | None
    samples: SampleCounts
    dead_letters: dict[str, NonNegativeInt]
    """Malformed records by reason."""
    privacy: PrivacyAccount | None = None
    """None of a learner that is not differentially private."""
    samples_per_second: NonNegativeFloat
    seconds: NonNegativeFloat
    evaluation_seconds: NonNegativeFloat
    peak_rss_bytes: NonNegativeInt
    evaluate_every: int = Field(ge=1)
    """Samples from one evaluation on the probes' subsets to the next."""
    probe_subset: int = Field(ge=1)
    """Images of each probe in such an evaluation."""
    window: int = Field(default=WINDOW, ge=2)
    """Evaluations within which ``windowed_forgetting`` and ``windowed_plasticity`` look."""
    evaluations: list[EvaluationPoint]
    classes: list[ClassPoint] = Field(default_factory=list)
    """The same evaluations class by class; of a long run fewer."""
    switches: list[SegmentSwitch]
    boundaries: Boundaries = Boundaries()
    throughput: list[ThroughputPoint]
    prequential: list[PrequentialPoint]

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        if any(len(row) != len(self.probes) for row in self.R):
            raise ValueError(f"R: every row has {len(self.probes)} accuracies, one a probe")
        if len(self.R) > len(self.segments) + 1:
            raise ValueError(f"R: {len(self.R)} rows, {len(self.segments)} segments have at most one more")
        named = {*self.forgetting_by_probe, *(name for point in self.evaluations for name in point.accuracy)}
        if not named <= set(self.probes):
            raise ValueError(
                f"probes: {', '.join(sorted(named - set(self.probes)))} measured, but not listed"
            )
        return self

    def write(self, path: Path) -> None:
        """Write the run to ``path``, atomically: a reader sees the old file or the new one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        with partial.open("w", encoding="utf-8") as file:
            file.write(self.model_dump_json(indent=1))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the run that `write` left at ``path``; raises InvalidFile for anything else."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise InvalidFile(f"{path} is not a run that can be read: {error}") from error
