"""What a stream consists of: named segments in YAML, each a data set seen in some way."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from producers.datasets import DATASETS, DatasetName
from service.errors import InvalidScenario

__all__ = ["SHIPPED", "Scenario", "Segment", "Transform", "load_scenario", "shipped_scenarios"]

SHIPPED: Final = Path(__file__).parent / "scenarios"

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]
"""It becomes a Kafka key, a header, a metric's label and a file name."""
Share = Annotated[float, Field(ge=0, le=1)]
Class = Annotated[int, Field(ge=0, le=9)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Transform(_Strict):
    """What is done to every image of a segment; at most one of the two."""

    rotate: float | None = None
    """Degrees, counter-clockwise, about the centre; corners are filled with black."""
    permute: int | None = Field(default=None, ge=0)
    """Seed of one fixed shuffle of the pixels (Goodfellow et al. 2013)."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.rotate is None) == (self.permute is None):
            raise ValueError("one of rotate and permute is needed, and not both")
        return self


class Segment(_Strict):
    """A stretch of the stream with one subject."""

    subject: Name
    """The ``segment`` header and the probe's name; a subject that recurs keeps its name."""
    dataset: DatasetName
    count: int | None = Field(default=None, ge=1)
    """How many rows; all that earlier segments left, when it is not given."""
    classes: Annotated[tuple[Class, ...], Field(min_length=1)] | None = None
    """Only rows of these classes, under their own labels; all classes, when it is not given."""
    seed: int = Field(default=0, ge=0)
    """Which shuffle of the data set. Segments with the same data set, classes and seed share one
    shuffle, and each takes up where the one before stopped: no row is used twice."""
    transform: Transform | None = None
    blend: int = Field(default=0, ge=0)
    """Over how many samples the rows mix with those of the next segment; 0 is an abrupt switch."""
    malformed: Share = 0.0
    """The share of records that are made unreadable, in every way there is."""
    label_noise: Share = 0.0
    """The share of rows that carry a wrong label."""

    @model_validator(mode="after")
    def _distinct_classes(self) -> Self:
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise ValueError("classes names a class twice")
        return self

    @property
    def pool(self) -> tuple[DatasetName, tuple[int, ...], int]:
        """The data set, classes and seed: the rows that are shuffled together."""
        return self.dataset, tuple(sorted(self.classes or range(10))), self.seed

    @property
    def pool_size(self) -> int:
        """How many training rows the pool has."""
        rows = DATASETS[self.dataset].rows_of_class
        return sum(rows[label] for label in self.pool[1])


class Scenario(_Strict):
    """A stream whose subject changes under its reader."""

    name: Name
    description: str
    segments: Annotated[tuple[Segment, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._check_subjects()
        self._check_pools()
        self._check_blends()
        return self

    @property
    def subjects(self) -> list[Segment]:
        """The segment in which each subject is met first."""
        return list({segment.subject: segment for segment in reversed(self.segments)}.values())[::-1]

    def lengths(self, samples: int | None = None) -> list[int]:
        """Return how many records each segment has, at most ``samples`` each."""
        used: Counter[object] = Counter()
        lengths = []
        for segment in self.segments:
            left = segment.pool_size - used[segment.pool]
            length = left if segment.count is None else segment.count
            used[segment.pool] += length
            lengths.append(length if samples is None else min(length, samples))
        return lengths

    def total(self, samples: int | None = None) -> int:
        """Return the number of records, malformed ones included: they replace rows."""
        return sum(self.lengths(samples))

    def blends(self, samples: int | None = None) -> list[int]:
        """Return each segment's blend, always even, shortened as much as the shorter side of it."""
        pairs = list(zip(self.lengths(), self.lengths(samples), strict=True))
        sides = zip(pairs, pairs[1:] + pairs[-1:], strict=True)
        return [
            min(segment.blend * short // full for full, short in both) // 2 * 2
            for segment, both in zip(self.segments, sides, strict=True)
        ]

    def _check_subjects(self) -> None:
        first = {segment.subject: segment for segment in self.subjects}
        for index, segment in enumerate(self.segments):
            met = first[segment.subject]
            for key in ("dataset", "classes", "transform"):
                if getattr(segment, key) != getattr(met, key):
                    raise ValueError(
                        f"segments.{index}.{key}: subject {segment.subject} had another {key} before,"
                        " and one probe cannot measure both"
                    )

    def _check_pools(self) -> None:
        used: Counter[object] = Counter()
        pools = {segment.pool for segment in self.segments}
        for index, (segment, length) in enumerate(zip(self.segments, self.lengths(), strict=True)):
            name, classes, seed = segment.pool
            left = segment.pool_size - used[segment.pool]
            if length < 1 or length > left:
                raise ValueError(
                    f"segments.{index}.count: {segment.count or 'all'} rows are asked for, and earlier"
                    f" segments left {left} of {segment.pool_size} ({name}, seed {seed})"
                )
            used[segment.pool] += length
            for other in pools - {segment.pool}:
                if (other[0], other[2]) == (name, seed) and set(other[1]) & set(classes):
                    raise ValueError(
                        f"segments.{index}.classes: another segment of {name} with seed {seed} shares some,"
                        " but not all, of its classes; give one of them another seed"
                    )

    def _check_blends(self) -> None:
        halves = [segment.blend / 2 for segment in self.segments]
        if halves[-1]:
            raise ValueError(f"segments.{len(halves) - 1}.blend: the last segment has none to blend into")
        for index, length in enumerate(self.lengths()):
            before = halves[index - 1] if index else 0
            if before + halves[index] > length:
                raise ValueError(
                    f"segments.{index}.blend: its {length} rows are fewer than the blends on both sides need"
                )


def shipped_scenarios() -> list[Scenario]:
    """Return the scenarios that come with Lethe, by name."""
    return [load_scenario(str(path)) for path in sorted(SHIPPED.glob("*.yaml"))]


def load_scenario(name_or_path: str) -> Scenario:
    """Return a shipped scenario by its name, or one from a YAML file by its path.

    Raises InvalidScenario, which names the file and the key.
    """
    path = SHIPPED / f"{name_or_path}.yaml"
    if not path.is_file():
        path = Path(name_or_path)
    try:
        return Scenario.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        names = ", ".join(sorted(known.stem for known in SHIPPED.glob("*.yaml")))
        raise InvalidScenario(f"{name_or_path} is neither a file nor one of {names}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidScenario(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        raise InvalidScenario("\n".join(f"{path}: {line}" for line in _lines(error))) from error


def _lines(error: ValidationError) -> list[str]:
    lines = []
    for fault in error.errors():
        # what a model_validator raises is about the whole model and names its key itself
        key = ".".join(map(str, fault["loc"]))
        said = fault["msg"].removeprefix("Value error, ")
        lines.append(f"{key}: {said}" if key else said)
    return lines
