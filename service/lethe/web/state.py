"""The response of ``GET /state``: the run so far, field by field."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lethe.events import SampleCounts, Scores
from lethe.observability.model_standing import ModelStanding
from lethe.observability.result import PrivacyAccount
from lethe.observability.run_state import RunState
from lethe.privacy.status import PolicyStatus
from lethe.report.vital_signs import LOST

__all__ = ["State", "state_of"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)


class Broker(_Model):
    """Whether the broker answers, and the reason if it does not."""

    up: bool
    detail: str


class PolicyState(_Model):
    """Compliance of the run with its policy; fields are null without a policy or before they are known."""

    policy: str | None
    allows: str | None
    """The most that a learner is allowed to retain of a sample."""
    residency_seconds: float | None
    """Residency of the oldest sample of the last batch: how long it was in the service."""
    residency_allowed_seconds: float | None
    violations: dict[str, int]
    """By rule."""
    unpurged_records: int | None
    """Learned records that the policy requires to be purged and the broker still holds."""
    purge_lag_seconds: float | None
    """Time since the oldest of them was learned."""
    ledger_entries: int | None
    ledger_head: str | None
    """SHA-256 of the ledger's newest entry, which covers all earlier ones."""


class BoundaryVerdict(_Model):
    """Verdict on the detected boundaries and regimes so far, against the segments that the headers name."""

    found: int
    missed: int
    """Switches that were not detected before the next one."""
    awaited: bool
    """Whether the latest switch is still to be detected."""
    false_alarms: int
    delay: int | None
    """Samples from the latest detected switch to its detection."""
    returns: int
    """Repeated visits to a segment."""
    recognised: int
    """Repeated visits that were assigned the regime of the first."""
    mistaken: int
    """First visits that were assigned the regime of an earlier segment."""


class Start(_Model):
    """Time from the start of this process to its first learned batch, in seconds."""

    seconds: float
    imports_seconds: float
    """The part of it until the libraries were imported."""


class WatchedModel(_Model):
    """A watched model, as of its latest evaluation."""

    name: str
    address: str
    up: bool
    """Whether it answers; if not, what it knows now is unknown, and the rest is as it was."""
    detail: str
    """Why it does not answer."""
    probe: str | None
    """The old skill that lost most; null while none is old."""
    lost: float | None
    """How far the accuracy on it is below its best."""
    verdict: Literal["good", "doubtful", "bad", "unknown"]
    """On that loss, by the limits of the alerts."""
    acc: float | None
    wc_acc: float | None
    measured_seconds: float | None
    """Time since it was measured; null before."""
    requests: int | None
    """Requests of the latest round; null for a model that another service watches."""
    latency_seconds: float | None
    """Median duration of these."""

    @classmethod
    def of(cls, standing: ModelStanding) -> "WatchedModel":
        """Return how a model stands, with a verdict."""
        known = standing.up and standing.lost is not None
        verdict = LOST.verdict(standing.lost or 0.0) if known else "unknown"
        return cls.model_validate({**asdict(standing), "verdict": verdict})


class LabelCounts(_Model):
    """Labels that came later than their samples, from a topic of their own."""

    joined: int
    """Samples learned with one."""
    dropped: dict[str, int]
    """Labels that were of no sample, by reason."""


class State(_Model):
    """The run so far. Accuracies are ratios from 0 to 1, times are seconds."""

    learner: str
    retains: str
    """The most that the learner retains of a sample."""
    source: str = "learned"
    """``watched`` for a model that Lethe does not train; ``topic`` and ``broker`` are then its address and
    whether it answers."""
    topic: str
    positions: dict[str, int]
    """The first offset not yet learned, by partition."""
    lag: dict[str, int]
    """Records in the topic not yet learned, by partition."""
    broker: Broker
    alive: bool
    """Whether the loop is running."""
    ready: bool
    """Whether the broker answers."""
    segment: str | None
    """The current segment, as the records' headers name it."""
    visit: int
    """The number of the segment; 0 before the first."""
    samples: SampleCounts
    dead_letters: dict[str, int]
    """Malformed records, by reason."""
    late_labels: LabelCounts = LabelCounts(joined=0, dropped={})
    boundaries: dict[str, int]
    """Boundaries detected in the stream, by signal."""
    regime: int | None
    """Number of the current regime; an earlier number means that the regime has returned."""
    judged: BoundaryVerdict | None
    """Null in a stream without named segments."""
    samples_per_second: float
    """Recent throughput."""
    seconds: float
    """Since the first batch, without the time between stop and restart."""
    evaluation_seconds: float
    """The part of it spent on evaluations."""
    start: Start | None
    """Null before the first batch that this process learns."""
    accuracy: dict[str, float]
    """On each probe, as of the latest evaluation."""
    by_class: dict[str, list[float | None]]
    class_names: list[str]
    """Names of the classes, by label; empty if they have only numbers."""
    """Accuracy on each class of each probe; null for a class without images."""
    ece: dict[str, float]
    """Expected calibration error on each probe, as of the latest evaluation."""
    scores: Scores
    forgetting_by_probe: dict[str, float]
    """How far the accuracy on each earlier probe is below its best; on every probe if no segments are
    named."""
    R: list[list[float]] = Field(default_factory=list)
    """Accuracy on each probe (column) after each segment (row); row 0 is the untrained learner."""
    fading_accuracy: float | None = None
    """Test-then-train accuracy on about the last thousand samples; null before the first, or if withheld."""
    estimated_accuracy: float | None = None
    """The same, estimated from the learner's confidences alone, also on samples without a label; null unless
    evaluation.estimate is set."""
    chance_accuracy: float | None = None
    """The accuracy of guessing; null before the first evaluation by class."""
    noise: dict[str, float] = Field(default_factory=dict)
    """Two standard errors of the accuracy on each probe: a smaller loss is none."""
    within_floor: float | None = None
    """Share of the time, at most the last 30 days, in which every old skill was within its floor; null
    before one was learned."""
    forgetting_budget_left: float | None = None
    """1 if an old skill was never below its floor, 0 if one was for 1 % of 30 days, less if the objective is
    missed."""
    privacy: PrivacyAccount | None = None
    """The privacy budget that a differentially private learner has spent; null for others."""
    standing: PolicyState
    models: list[WatchedModel] = Field(default_factory=list)
    """The watched model, and those of ``--beside``; empty for a learner."""


def state_of(
    run_state: RunState, policy_status: PolicyStatus, beside: Callable[[], Sequence[ModelStanding]] = tuple
) -> State:
    """Return the run so far; ``beside`` returns how models stand that are watched elsewhere."""
    standings = [run_state.standing(), *beside()] if run_state.watched else []
    models = [WatchedModel.of(standing) for standing in standings]
    return State.model_validate({**run_state.state(), "standing": policy_status.state(), "models": models})
