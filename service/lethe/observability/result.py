"""The result of a run: one JSON file, from which reports are drawn."""

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    ValidationError,
    model_validator,
)

from lethe.errors import InvalidFile
from lethe.evaluation.boundary_scores import Boundaries
from lethe.evaluation.history import History, HistorySnapshot
from lethe.evaluation.windows import WINDOW
from lethe.events import PrivacySpent, SampleCounts, Scores
from lethe.models import Document

__all__ = [
    "ClassPoint",
    "EvaluationPoint",
    "PrequentialPoint",
    "PrivacyAccount",
    "RunResult",
    "SegmentSwitch",
    "ThroughputPoint",
]


class EvaluationPoint(Document):
    """One evaluation, after ``samples`` learned samples.

    ``on_subset`` is the accuracy on the probe's fixed subset alone, which windows compare, and
    ``ece`` the expected calibration error. ``scores`` are the `Scores` that were defined,
    at that point. Files of older versions lack all three.
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
    def of(cls, history: History | HistorySnapshot) -> list[Self]:
        """Return the curve of a history."""
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


class ClassPoint(Document):
    """Accuracy by class on each probe after ``samples`` learned samples; None for a class without images."""

    samples: NonNegativeInt
    full: bool
    accuracy: dict[str, list[float | None]]

    @classmethod
    def of(cls, history: History | HistorySnapshot) -> list[Self]:
        """Return the evaluations by class of a history."""
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


class PrequentialPoint(Document):
    """The fading test-then-train accuracy after ``samples`` learned samples."""

    samples: NonNegativeInt
    accuracy: float

    @classmethod
    def of(cls, history: History | HistorySnapshot) -> list[Self]:
        """Return the curve of a history, from the first learned sample on."""
        return [
            cls(samples=point.samples, accuracy=point.prequential_fading)
            for point in history.points
            if point.prequential_fading is not None
        ]


class SegmentSwitch(Document):
    """``segment`` started after ``samples`` learned samples."""

    samples: NonNegativeInt
    segment: str

    @classmethod
    def of(cls, history: History | HistorySnapshot) -> list[Self]:
        """Return the start of every segment."""
        return [cls(samples=switch.samples, segment=switch.segment) for switch in history.switches]


class PrivacyAccount(Document):
    """The ε that a differentially private learner has spent at ``delta``, of its ``budget``."""

    epsilon: NonNegativeFloat | None
    """None if ``simulated``."""
    delta: NonNegativeFloat
    budget: NonNegativeFloat
    spent: bool
    """Another batch would have exceeded the budget, so learning ended."""
    simulated: bool = False
    """The noise was seeded: it can be subtracted by anyone who knows the seed, so no ε holds."""
    simulated_epsilon: NonNegativeFloat | None = None
    """What secret noise would have cost; None if the noise was secret."""

    @classmethod
    def of(cls, spent: PrivacySpent) -> Self:
        """Return the account of an event, without an ``epsilon`` if it is simulated."""
        return cls(
            epsilon=None if spent.simulated else spent.epsilon,
            delta=spent.delta,
            budget=spent.budget,
            spent=spent.spent,
            simulated=spent.simulated,
            simulated_epsilon=spent.epsilon if spent.simulated else None,
        )


class ThroughputPoint(Document):
    """Samples learned per second around the point where ``samples`` samples had been learned."""

    samples: NonNegativeInt
    samples_per_second: NonNegativeFloat


class RunResult(Scores, Document):
    """The result of one learner on one stream, or of a watched model.

    For a watched model, ``samples`` on any axis are seconds since the first evaluation.

    Accuracies are ratios from 0 to 1, times are in seconds. A score is None if it was not defined, see
    `lethe.evaluation.score_formulas`.
    """

    learner: str
    retains: str
    summary: str
    source: Literal["learned", "watched"] = "learned"
    """Whether Lethe trains the model, or only watches it."""
    seed: int
    scenario: str | None
    broker: str
    segments: list[str]
    """Segments visited, in order; row i of ``R`` follows ``segments[i - 1]``."""
    probes: list[str]
    """The columns of ``R``."""
    probe_hashes: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of each probe's images and labels; empty in files of older versions."""
    R: list[list[float]]
    forgetting_by_probe: dict[str, float]
    """How far each old probe is below its best; every probe while no segment has been named."""
    samples: SampleCounts
    dead_letters: dict[str, NonNegativeInt]
    """Malformed records by reason."""
    privacy: PrivacyAccount | None = None
    """None for a learner that is not differentially private."""
    samples_per_second: NonNegativeFloat
    seconds: NonNegativeFloat
    evaluation_seconds: NonNegativeFloat
    peak_rss_bytes: NonNegativeInt
    """Peak memory of the service, plus those of the processes that read for it."""
    evaluate_every: int = Field(ge=1)
    """Samples from one evaluation on the probes' subsets to the next."""
    probe_subset: int = Field(ge=1)
    """Images of each probe in such an evaluation."""
    window: int = Field(default=WINDOW, ge=2)
    """Evaluations in a window of ``windowed_forgetting`` and ``windowed_plasticity``."""
    evaluations: list[EvaluationPoint]
    classes: list[ClassPoint] = Field(default_factory=list)
    """Evaluations by class; fewer than ``evaluations`` in a long run."""
    class_names: list[str] = Field(default_factory=list)
    """Names of the classes, by label; empty if they have only numbers."""
    switches: list[SegmentSwitch]
    boundaries: Boundaries = Boundaries()
    throughput: list[ThroughputPoint]
    prequential: list[PrequentialPoint]
    fading_accuracy: float | None = None
    """The last of them, as of the last learned batch."""
    estimated_accuracy: float | None = None
    """The same, estimated from confidences alone, also on samples without a label; None unless asked for."""
    chance_accuracy: float | None = None
    """The accuracy of guessing."""
    noise: dict[str, float] = Field(default_factory=dict)
    """Two standard errors of the latest accuracy on each probe: a smaller loss is none."""
    within_floor: float | None = None
    """Share of the time, at most the last 30 days, in which every old skill was within its floor."""
    forgetting_budget_left: float | None = None
    """1 if an old skill was never below its floor, 0 if one was for 1 % of 30 days."""
    unknown: str | None = None
    """Why it is unknown what a watched model knows now; None while it answers."""
    failure: str | None = None
    """Why the run failed; None if it did not."""

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        if any(len(row) != len(self.probes) for row in self.R):
            raise ValueError(f"R: every row has {len(self.probes)} accuracies, one per probe")
        if len(self.R) > len(self.segments) + 1:
            raise ValueError(f"R: {len(self.R)} rows, {len(self.segments)} segments have at most one more")
        named = {*self.forgetting_by_probe, *(name for point in self.evaluations for name in point.accuracy)}
        if not named <= set(self.probes):
            raise ValueError(
                f"probes: {', '.join(sorted(named - set(self.probes)))} measured, but not listed"
            )
        return self

    def write(self, path: Path) -> None:
        """Write the result to ``path`` atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        with partial.open("w", encoding="utf-8") as file:
            file.write(self.model_dump_json(indent=1))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the result that `write` wrote to ``path``. Raises InvalidFile for anything else."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise InvalidFile(f"{path} is not a run that can be read: {error}") from error
