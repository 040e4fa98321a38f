"""Every setting of ``lethe run``: a variable LETHE_<SECTION>__<NAME>, and a flag.

Each section stands beside its owner; here they are put together and read. Flags go before
variables, variables before defaults; whatever is not a setting is an error.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self, cast

from pydantic import Field, JsonValue, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from service.errors import InvalidSetting
from service.privacy.settings import PrivacySettings
from service.section import Section
from service.slots import BatchSettings
from service.stream.settings import StreamSettings
from service.wire import Layout

__all__ = [
    "OUTSIDE",
    "CheckpointSettings",
    "DriftSettings",
    "EvaluationSettings",
    "LearnerSettings",
    "RunSettings",
    "ServeSettings",
    "Settings",
    "variable",
]

PREFIX: Final = "LETHE_"
OUTSIDE: Final = ("LETHE_DATA", "LETHE_KAFKA", "LETHE_TEST_REQUIRE", "LETHE_TEST_SEGMENT")
"""Variables of other programs of the project: where data sets and Kafka are kept, how tests run."""


class LearnerSettings(Section):
    """What learns."""

    name: str = Field(default="finetune", json_schema_extra={"flag": "--learner"})
    """The learner; lethe learners lists them."""
    seed: int = Field(default=0, ge=0, json_schema_extra={"flag": "--seed"})
    """Seed of everything random in the learner and in the choice of the probes' subset."""
    options: dict[str, JsonValue] = Field(
        default_factory=dict, json_schema_extra={"flag": "--option", "metavar": "NAME=VALUE"}
    )
    """An option of the learner, repeatable; lethe learners NAME lists them. The variable is JSON."""
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", json_schema_extra={"flag": "--device"})
    """Where tensors live; auto takes cuda if there is one."""
    threads: int = Field(default=0, ge=0, le=1024, json_schema_extra={"flag": "--threads"})
    """Threads that torch computes with; 0 leaves the choice to torch."""


class DriftSettings(Section):
    """How a learner comes to know that the stream's subject has changed."""

    oracle: bool = Field(default=False, json_schema_extra={"flag": "--oracle-boundaries"})
    """Tell it what the records' segment header says, instead of what is detected; for comparison."""
    threshold: float = Field(default=1.0, gt=0, json_schema_extra={"flag": "--drift-threshold"})
    """How much evidence a boundary takes, as a multiple of the usual: more finds it later, with fewer false
    alarms."""


class EvaluationSettings(Section):
    """How what is still known is measured."""

    probes: Path | None = Field(default=None, json_schema_extra={"flag": "--probes"})
    """Folder of held-out probe sets (lethe-replay probes); without it nothing is evaluated but the stream."""
    every: int = Field(default=5000, ge=1, json_schema_extra={"flag": "--evaluate-every"})
    """Samples between two evaluations on a subset of each probe."""
    subset: int = Field(default=1000, ge=1)
    """Images in that subset; at the end of a segment the whole probe is used."""
    window: int = Field(default=10, ge=2, le=1000)
    """Within so many evaluations windowed forgetting and plasticity, WF and WP, look for a change."""


class CheckpointSettings(Section):
    """Where the run's state is kept, and how often."""

    folder: Path | None = Field(default=None, json_schema_extra={"flag": "--state"})
    """Folder of checkpoints; a restart goes on from there. Without it a restart begins anew."""
    keep: int = Field(default=3, ge=1, le=1000)
    """Checkpoints kept, to fall back to when the newest cannot be read."""
    every_seconds: float = Field(default=30.0, gt=0)
    """A checkpoint is due after so long,"""
    every_samples: int | None = Field(default=None, ge=1, json_schema_extra={"flag": "--checkpoint-every"})
    """or after so many samples; at the end of a segment and of the run it always is."""
    fresh: bool = Field(default=False, json_schema_extra={"flag": "--fresh"})
    """Begin anew, once: checkpoints that are there are set aside, not deleted. A restart with the flag
    still given and the same settings goes on; one without it makes it count again."""


class ServeSettings(Section):
    """Where metrics, health and state are served over HTTP."""

    host: str = Field(default="127.0.0.1", json_schema_extra={"flag": "--host"})
    """Address to listen on; everybody who reaches it can read the metrics."""
    port: int = Field(default=9108, ge=0, le=65535, json_schema_extra={"flag": "--port"})
    """Port to listen on; 0 takes a free one, which the log names."""
    token_file: Path | None = None
    """File with a bearer token, without which nothing about the run is told: /metrics, /state, /events and
    /predict ask for it; /livez, /readyz, the empty page and /openapi.json do not."""
    max_body_bytes: int = Field(default=1 << 20, ge=1)
    """A request to /predict with a longer body is refused."""
    stalled_seconds: float = Field(default=120.0, gt=0)
    """/livez fails when the loop has not turned for so long."""
    keep: bool = Field(default=False, json_schema_extra={"flag": "--keep-serving"})
    """Go on serving after the run has ended, until SIGTERM or Ctrl-C."""


class RunSettings(Section):
    """Where a run leaves what it found out."""

    report: Path | None = Field(default=None, json_schema_extra={"flag": "--report"})
    """Folder for run.json, the whole result in one document, and report.html."""


class Settings(BaseSettings):
    """All sections. Raises InvalidSetting, through `read`, naming each bad setting."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
    )

    stream: StreamSettings = Field(default_factory=StreamSettings)
    sample: Layout = Field(default_factory=Layout)
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

    @classmethod
    def read(cls, flags: Mapping[str, Mapping[str, Any]]) -> Self:
        """Return the settings in force; ``flags`` maps a section to the values given for it.

        Raises InvalidSetting naming every setting that is unknown or has a bad value.
        """
        known = {variable(section, name) for section, name in cls.leaves()} | set(OUTSIDE)
        known |= {PREFIX + section.upper() for section in cls.model_fields}
        unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
        if unknown:
            raise InvalidSetting(f"{', '.join(unknown)}: no such setting, lethe run --help lists them")
        try:
            return cls(**cast("dict[str, Any]", dict(flags)))
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors()]
            raise InvalidSetting("; ".join(problems)) from error
        except SettingsError as error:
            raise InvalidSetting(f"{', '.join(_torn())} is not JSON: {error}") from error

    @classmethod
    def leaves(cls) -> dict[tuple[str, str], FieldInfo]:
        """Return every setting by its section and name."""
        return {
            (section, name): leaf
            for section, field in cls.model_fields.items()
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
            for name, leaf in field.annotation.model_fields.items()
        }


def variable(section: str, name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{PREFIX}{section.upper()}__{name.upper()}"


def _torn() -> list[str]:
    """Return the variables that should be JSON, going by how they begin or whom they name, and are not."""
    sections = {PREFIX + section.upper() for section in Settings.model_fields}
    torn = []
    for name, value in sorted(os.environ.items()):
        if name in sections or (name.startswith(PREFIX) and value.startswith("{")):
            try:
                json.loads(value)
            except ValueError:
                torn.append(name.removeprefix(PREFIX).replace("__", ".").lower())
    return torn
