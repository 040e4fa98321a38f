"""Every setting of ``lethe run``, read from flags and from variables LETHE_<SECTION>__<NAME>.

Flags take precedence over variables, variables over defaults. An unknown setting is an error.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self, cast

from pydantic import Field, JsonValue, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from lethe.errors import InvalidSetting
from lethe.events import MIN_SEGMENT
from lethe.files.bounded_json import read_json
from lethe.models import Section
from lethe.stream.addresses import broker_at
from lethe.stream.settings import StreamSettings
from lethe.wire import Layout

__all__ = [
    "OTHER_VARIABLES",
    "TOPIC_PREFIX",
    "BatchSettings",
    "CheckpointSettings",
    "DriftSettings",
    "EvaluationSettings",
    "LabelSettings",
    "LearnerSettings",
    "PrivacySettings",
    "RunSettings",
    "ServeSettings",
    "Settings",
    "variable",
]

PREFIX: Final = "LETHE_"
OTHER_VARIABLES: Final = (
    "LETHE_DATA",
    "LETHE_KAFKA",
    "LETHE_RANKS_STORE",
    "LETHE_TEST_REQUIRE",
    "LETHE_TEST_SEGMENT",
)
"""Variables that are not settings: where data sets and Kafka are stored, where ranks meet, how tests run."""

TOPIC_PREFIX: Final = "topic:"
"""Prefix of a witness that is a topic; without it the witness is a file."""


class BatchSettings(Section):
    """How records are grouped into batches."""

    size: int = Field(default=64, ge=1, le=65536)
    """Samples in a training step; unless given, the learner's own number, see lethe learners. Every batch is
    full except the last one of a run."""
    slots: int = Field(default=16, ge=2, le=1024)
    """Batches held in memory at once: how far reading may run ahead of learning."""
    readers: int = Field(default=1, ge=1, le=64)
    """Processes that decode images. With 1, the process that reads the stream also decodes. Any number learns
    the same records in the same order."""
    linger: float = Field(default=0.0, ge=0.0, le=3600.0)
    """Learn an incomplete batch after this many seconds without a record; 0 waits for a full one. With any
    other value, the same records can be grouped into different batches in another run."""


class LabelSettings(Section):
    """What the labels of records are."""

    names: Path | None = None
    """File with the names of the classes, one a line: labels are then these names instead of numbers."""
    unlabelled: Literal["refuse", "predict"] = "refuse"
    """What happens to records without a label: refuse dead-letters them; predict predicts them, for
    stream.predictions_topic and evaluation.estimate, and discards them without learning."""
    topic: str = Field(default="", pattern=r"^[a-zA-Z0-9._-]*$", max_length=249)
    """Topic with the labels of records that have none: the key is the record's, the value its label. None by
    default."""
    wait: float = Field(default=60.0, gt=0, le=86400)
    """Seconds that a record waits for its label in labels.topic; then labels.unlabelled applies to it."""
    pending: int = Field(default=100_000, ge=1, le=1_000_000)
    """Records of a partition that may wait for labels, and labels that may wait for records; of each, at most
    64 MiB. Beyond it, no more are read until some are learned. Allow for twice the labels that come within
    labels.wait."""
    max_classes: int | None = Field(default=None, ge=2, le=1000)
    """Labels are names, and new ones become classes as they appear, up to this many, after those in
    labels.names. A learner is built for all of them; what it predicts is one that has appeared."""


class LearnerSettings(Section):
    """Which learner is trained, and how."""

    name: str = "finetune"
    """Learner to train; see lethe learners."""
    seed: int = Field(default=0, ge=0)
    """Seed of the learner and of the choice of each probe's subset."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Option of the learner; repeatable. See lethe learners NAME. The variable takes a JSON object."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device for tensors; auto uses CUDA if it is available."""
    threads: int = Field(default=0, ge=0, le=1024)
    """Threads for torch; 0 leaves the choice to torch."""


class DriftSettings(Section):
    """How changes of the stream's subject are detected."""

    oracle: bool = False
    """Pass the segment headers' boundaries to the learner instead of the detected ones, for comparison."""
    threshold: float = Field(default=1.0, gt=0)
    """Factor on the evidence that a boundary requires. Above 1, boundaries are found later and with fewer
    false alarms."""


class EvaluationSettings(Section):
    """How retained knowledge is measured."""

    probes: Path | None = None
    """Folder of held-out probe sets, as written by lethe-replay probes. Without it only prequential accuracy
    is measured."""
    every: int = Field(default=5000, ge=1)
    """Samples between two evaluations on each probe's subset; unless given, the learner's own number (lethe
    learners)."""
    subset: int = Field(default=1000, ge=1)
    """Images in each probe's subset. At the end of a segment the whole probe is evaluated."""
    feature_memory: int = Field(default=256, ge=0)
    """Memory for features of the probes' images, in MiB. Learners on fixed features compute them once; those
    that do not fit are computed for each evaluation."""
    window: int = Field(default=10, ge=2, le=1000)
    """Evaluations in the window of windowed forgetting (WF) and plasticity (WP)."""
    min_segment: int = Field(default=MIN_SEGMENT, ge=1)
    """Successive records with the same segment header that start a segment. If headers alternate faster,
    no segment starts."""
    estimate: bool = False
    """Estimate the accuracy on the stream from the learner's confidences alone, beside the measured one: also
    on records without a label, if labels.unlabelled is predict."""


class CheckpointSettings(Section):
    """Where the run's state is saved, and how often."""

    folder: Path | None = None
    """Folder for checkpoints; a restart resumes from it. Without it, a restart begins from scratch."""
    keep: int = Field(default=3, ge=1, le=1000)
    """Number of checkpoints to keep, to fall back on when the newest is unreadable."""
    every_seconds: float = Field(default=30.0, gt=0)
    """Seconds between checkpoints. One is also written at the end of each segment and of the run."""
    every_samples: int | None = Field(default=None, ge=1)
    """Samples between checkpoints, in addition to checkpoint.every_seconds."""
    fresh: bool = False
    """Begin from scratch: existing checkpoints are moved aside, not deleted. A restart with the same flag and
    settings resumes; after a start without the flag it applies again."""


class PrivacySettings(Section):
    """What may be retained, and for how long."""

    policy: str | None = None
    """Policy to enforce: lab, clinic, vault, or a file such as ./ours.yaml. It requires --state, where the
    ledger is kept. The format is that of the files in deploy/policies/."""
    witness: str | None = Field(default=None, min_length=1)
    """Append the ledger's head to a file, or to a topic as topic:NAME, with each checkpoint. lethe audit
    compares the heads with the ledger. The service needs permission to append and no more. If writing
    fails, learning continues."""

    @field_validator("witness")
    @classmethod
    def _topic(cls, value: str | None) -> str | None:
        if value is not None and value.startswith(TOPIC_PREFIX):
            name = value.removeprefix(TOPIC_PREFIX)
            if not re.fullmatch(r"[a-zA-Z0-9._-]{1,249}", name):
                raise ValueError(f"{name!r} is not a valid topic name")
        return value


class ServeSettings(Section):
    """Where metrics, health and state are served over HTTP."""

    host: str = "127.0.0.1"
    """Address to listen on. Anyone who can reach it can read the metrics."""
    port: int = Field(default=9108, ge=0, le=65535)
    """Port to listen on; 0 picks a free one, which is logged."""
    token_file: Path | None = None
    """File with a bearer token. Every request must carry it, except those for /livez, /readyz and the empty
    page."""
    hosts: str = ""
    """Accepted Host headers, separated by commas. localhost and IP addresses are always accepted; .NAME
    accepts every name below NAME, and * accepts any."""
    max_body_bytes: int = Field(default=1 << 20, ge=1)
    """Maximum size of a request body for /predict."""
    stalled_seconds: float = Field(default=120.0, gt=0)
    """Seconds without an iteration of the training loop after which /livez fails."""
    keep: bool = False
    """Keep serving after the run has ended, until SIGTERM or Ctrl-C."""

    @field_validator("hosts")
    @classmethod
    def _names(cls, hosts: str) -> str:
        for name in filter(None, hosts.split(",")):
            if re.fullmatch(r"\*|\.?[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?", name.strip()) is None:
                raise ValueError(f"{name.strip()!r} is not a host name; separate names with commas")
        return hosts


class RunSettings(Section):
    """In how many processes a run learns, and where it writes its results."""

    ranks: int | None = Field(default=None, ge=1, le=1024)
    """Processes on this machine that learn one model, each from its own partitions. By default the service
    learns in its own process, or is one of those that torchrun or Kubernetes starts."""
    average_every: int = Field(default=1, ge=1, le=1 << 20)
    """Rounds between two averages of the weights of finetune's ranks, each of which takes its own steps in
    between. With 1, all take every step together, on the average of their gradients."""
    rank_timeout: float = Field(default=600.0, gt=0)
    """Seconds without an answer after which a rank counts as lost, and all start again: when its machine or
    its network fails. A rank that ends is noticed at once."""
    cluster_trusted: bool = False
    """Whether nobody else is on the network between ranks on several machines, which is neither encrypted nor
    protected by a password. A policy requires it there."""

    report: Path | None = None
    """Folder for run.json, the complete result, and report.html."""


class Settings(BaseSettings):
    """All settings by section; `read` is how they are made."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
    )

    stream: StreamSettings = Field(default_factory=StreamSettings)
    sample: Layout = Field(default_factory=Layout)
    labels: LabelSettings = Field(default_factory=LabelSettings)
    batch: BatchSettings = Field(default_factory=BatchSettings)
    learner: LearnerSettings = Field(default_factory=LearnerSettings)
    drift: DriftSettings = Field(default_factory=DriftSettings)
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    checkpoint: CheckpointSettings = Field(default_factory=CheckpointSettings)
    privacy: PrivacySettings = Field(default_factory=PrivacySettings)
    serve: ServeSettings = Field(default_factory=ServeSettings)
    run: RunSettings = Field(default_factory=RunSettings)

    @model_validator(mode="after")
    def _rank(self) -> Self:
        if self.stream.rank >= self.stream.world:
            raise ValueError(f"stream.rank {self.stream.rank} must be below stream.world {self.stream.world}")
        return self

    @model_validator(mode="after")
    def _agree(self) -> Self:
        serve, state, report = self.serve, self.checkpoint.folder, self.run.report
        conflicts: list[str | None] = []
        witness = self.privacy.witness
        topic = witness.removeprefix(TOPIC_PREFIX) if witness and witness.startswith(TOPIC_PREFIX) else None
        if topic and topic in {self.stream.topic, self.stream.dead_letters, self.stream.predictions_topic}:
            conflicts.append(
                f"privacy.witness {witness} is a topic of records; use a separate topic for the heads"
            )
        topics = {
            self.stream.topic,
            self.stream.dead_letters,
            self.stream.predictions_topic,
            witness.removeprefix(TOPIC_PREFIX) if witness else None,
        }
        if self.labels.topic and self.labels.topic in topics:
            conflicts.append(
                f"labels.topic {self.labels.topic} is a topic of records; name another for labels"
            )
        if witness and state is None:
            conflicts.append("privacy.witness receives the heads of a ledger: it needs checkpoint.folder")
        if broker := broker_at(self.stream.bootstrap_servers, serve.host, serve.port):
            conflicts.append(f"serve.host and serve.port are {broker} of stream.bootstrap_servers")
        if state is not None:
            policy = self.privacy.policy
            others = {
                "run.report": report,
                "evaluation.probes": self.evaluation.probes,
                "labels.names": self.labels.names,
                "serve.token_file": serve.token_file,
                "privacy.witness": Path(witness) if witness and not topic else None,
                "privacy.policy": Path(policy) if policy and os.sep in str(policy) else None,
            }
            conflicts.append(_state_conflict(state, others))
        if self.batch.readers > 1 and set(self.sample.accepted.values()) == {"raw"}:
            conflicts.append(
                f"batch.readers {self.batch.readers}: the stream has only raw values, which need no decoding"
            )
        if report is not None and serve.token_file is not None and _inside(serve.token_file, report):
            conflicts.append(
                f"serve.token_file {serve.token_file} is in run.report {report}, which is meant to be shared"
            )
        if found := [conflict for conflict in conflicts if conflict is not None]:
            raise ValueError("; ".join(found))
        return self

    @classmethod
    def read(cls, flags: Mapping[str, Mapping[str, Any]]) -> Self:
        """Return the settings in force; ``flags`` maps each section to its values by name.

        Raises InvalidSetting, naming every setting that is unknown or has a bad value.
        """
        known = {variable(section, name) for section, name in cls.fields()} | set(OTHER_VARIABLES)
        known |= {PREFIX + section.upper() for section in cls.model_fields}
        unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
        if unknown:
            raise InvalidSetting(f"{', '.join(unknown)}: no such setting; lethe settings lists them")
        try:
            return cls(**cast("dict[str, Any]", dict(flags)))
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg'].removeprefix('Value error, ')}"
                for e in error.errors()
            ]
            raise InvalidSetting("; ".join(problems)) from error
        except (SettingsError, RecursionError) as error:
            raise InvalidSetting(f"{', '.join(_invalid_json())} cannot be read as JSON: {error}") from error

    @classmethod
    def sections(cls) -> dict[str, type[Section]]:
        """Return every section by its name."""
        return {
            name: field.annotation
            for name, field in cls.model_fields.items()
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
        }

    @classmethod
    def fields(cls) -> dict[tuple[str, str], FieldInfo]:
        """Return every setting by its section and name."""
        return {
            (section, name): field
            for section, kind in cls.sections().items()
            for name, field in kind.model_fields.items()
        }


def _state_conflict(state: Path, others: Mapping[str, Path | None]) -> str | None:
    """Return what is wrong if one of ``others``, by setting, is inside the state folder.

    A report is shared, a probe set has the same file suffix as a checkpoint, and a process that writes the
    state must not be able to write the policy or the token that it is held to.

    >>> _state_conflict(Path("a/state"), {"run.report": Path("a/state/../state/b"), "serve.token_file": None})
    'run.report a/state/../state/b is inside checkpoint.folder a/state, which must hold nothing but the state'
    >>> _state_conflict(Path("a/state"), {"run.report": Path("a")})
    """
    for setting, path in others.items():
        if path is not None and _inside(path, state):
            return (
                f"{setting} {path} is inside checkpoint.folder {state}, which must hold nothing but the state"
            )
    return None


def _inside(path: Path, folder: Path) -> bool:
    """Return whether ``path`` is ``folder`` or inside it, with links and dots resolved."""
    return path.resolve().is_relative_to(folder.resolve())


def variable(section: str, name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{PREFIX}{section.upper()}__{name.upper()}"


def _invalid_json() -> list[str]:
    """Return the settings whose variables should hold JSON, by name or first character, and do not."""
    sections = {PREFIX + section.upper() for section in Settings.model_fields}
    invalid = []
    for name, value in sorted(os.environ.items()):
        if name in sections or (name.startswith(PREFIX) and value.startswith("{")):
            try:
                read_json(value)
            except ValueError:
                invalid.append(name.removeprefix(PREFIX).replace("__", ".").lower())
    return invalid
