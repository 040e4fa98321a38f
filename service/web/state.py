"""What /state answers: the run so far, field by field."""

from pydantic import BaseModel, ConfigDict, Field

from service.journal import Journal
from service.privacy.standing import Standing
from service.result import PrivacyAccount

__all__ = ["State", "state_of"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)


class Samples(_Part):
    """Where every record went: received = learned + dead-lettered."""

    received: int
    learned: int
    discarded: int
    dead_lettered: int
    lost: int
    """Offsets that the broker never served."""
    resident: int
    """Samples in the service now, on their way through."""
    kept: int
    """Samples of before that the learner keeps."""


class Broker(_Part):
    """Whether the broker answers, and if not, why."""

    up: bool
    detail: str


class Scores(_Part):
    """Continual-learning metrics so far; null while they are not defined."""

    acc: float | None = None
    bwt: float | None = None
    """Backward transfer: below 0 is forgetting."""
    fwt: float | None = None
    forgetting: float | None = None
    """Mean over the old probes; over every probe as long as no segment has been named."""
    min_acc: float | None = None
    wc_acc: float | None = None
    windowed_forgetting: float | None = None
    """The largest drop of a probe's accuracy within a window of evaluations, mean over the probes seen."""
    windowed_plasticity: float | None = None
    """The same, upwards."""
    anytime_accuracy: float | None = None
    ece: float | None = None
    """Expected calibration error, mean over the probes seen."""
    prequential_accuracy: float | None = None


class PolicyStanding(_Part):
    """How the run stands with its policy; null where there is none, or nothing to tell."""

    policy: str | None
    allows: str | None
    """The most that a learner may keep of a sample."""
    residency_seconds: float | None
    """How long the oldest sample of the last batch was in the service."""
    residency_allowed_seconds: float | None
    violations: dict[str, int]
    """By rule."""
    unpurged_records: int | None
    """Learned records that the broker still has although the policy wants them purged."""
    purge_lag_seconds: float | None
    """How long the oldest of them has been learned."""
    ledger_entries: int | None
    ledger_head: str | None
    """SHA-256 of the ledger's newest entry, which stands for all before."""


class Judged(_Part):
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


class Start(_Part):
    """How long this process took until its first learned batch, in seconds."""

    seconds: float
    imports_seconds: float
    """Of them, until the libraries were imported."""


class State(_Part):
    """The run so far. Accuracies are ratios from 0 to 1, times are seconds."""

    learner: str
    retains: str
    """The most that the learner keeps of a sample."""
    topic: str
    positions: dict[str, int]
    """The first offset not yet learned, by partition."""
    lag: dict[str, int]
    """Records in the topic from there on, by partition."""
    broker: Broker
    alive: bool
    """The loop turned lately."""
    ready: bool
    """The broker answers."""
    segment: str | None
    """What is being learned, as the records' headers name it."""
    visit: int
    """Its number; 0 before the first."""
    samples: Samples
    dead_letters: dict[str, int]
    """Malformed records, by reason."""
    boundaries: dict[str, int]
    """Changes of subject that were detected in the stream itself, by signal."""
    regime: int | None
    """Number of the regime that was told last; an earlier one has come back."""
    judged: Judged | None
    """Null in a stream that names no segments."""
    samples_per_second: float
    """Learned, lately."""
    seconds: float
    """Since the first batch, without the time between stop and restart."""
    evaluation_seconds: float
    """Of them, spent on probes."""
    start: Start | None
    """None before the first batch that this process learns."""
    accuracy: dict[str, float]
    """Of each probe, as last measured."""
    by_class: dict[str, list[float | None]]
    """The same class by class; null for a class of which the probe has no images."""
    ece: dict[str, float]
    """Expected calibration error of each probe, as last measured."""
    scores: Scores
    forgetting_by_probe: dict[str, float]
    """How far each old probe, or any where no segments are named, is below its best."""
    R: list[list[float]] = Field(default_factory=list)
    """Accuracy on each probe (column) after each segment (row); row 0 is the untrained learner."""
    privacy: PrivacyAccount | None = None
    """What a differentially private learner has spent; null for others."""
    standing: PolicyStanding


def state_of(journal: Journal, standing: Standing) -> State:
    """Return the run so far."""
    return State.model_validate({**journal.state(), "standing": standing.state()})
