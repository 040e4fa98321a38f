"""Scenarios: streams described in YAML as a list of segments, each of one data set."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lethe.errors import InvalidScenario
from lethe.files.yaml import find_file, read_model
from lethe_producers.datasets import DATASETS, DatasetName

__all__ = ["SHIPPED", "Scenario", "Segment", "Transform", "load_scenario", "shipped_scenarios"]

SHIPPED: Final = Path(__file__).parent / "scenarios"

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]
"""Restricted because it becomes a Kafka key, a header, a metric's label and a file name."""
Share = Annotated[float, Field(ge=0, le=1)]
Class = Annotated[int, Field(ge=0, le=9)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Transform(_Strict):
    """A change of every image of a segment; exactly one of the two."""

    rotate: float | None = None
    """Degrees, counter-clockwise, around the centre; corners are filled with black."""
    permute: int | None = Field(default=None, ge=0)
    """Seed of a fixed permutation of the pixels (Goodfellow et al. 2013)."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.rotate is None) == (self.permute is None):
            raise ValueError("needs rotate or permute, and not both")
        return self


class Segment(_Strict):
    """A part of the stream with one subject."""

    subject: Name
    """The ``segment`` header and the name of the probe; a recurring subject keeps its name."""
    dataset: DatasetName
    count: int | None = Field(default=None, ge=1)
    """Number of rows; by default all that earlier segments left."""
    classes: Annotated[tuple[Class, ...], Field(min_length=1)] | None = None
    """Only rows of these classes, with their own labels; by default all classes."""
    seed: int = Field(default=0, ge=0)
    """Seed of the shuffle. Segments with the same data set, classes and seed share one shuffle, and each
    continues where the one before ended: no row is used twice."""
    transform: Transform | None = None
    blend: int = Field(default=0, ge=0)
    """Number of samples over which rows mix with those of the next segment; 0 is an abrupt switch."""
    malformed: Share = 0.0
    """Share of records that are malformed, in equal numbers for every reason."""
    label_noise: Share = 0.0
    """Share of rows with a wrong label."""

    @model_validator(mode="after")
    def _distinct_classes(self) -> Self:
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise ValueError("classes names a class twice")
        return self

    @property
    def pool(self) -> tuple[DatasetName, tuple[int, ...], int]:
        """Data set, classes and seed: they determine the rows that are shuffled together."""
        return self.dataset, tuple(sorted(self.classes or range(10))), self.seed

    @property
    def pool_size(self) -> int:
        """Number of training rows in the pool."""
        rows = DATASETS[self.dataset].rows_of_class
        return sum(rows[label] for label in self.pool[1])


class Scenario(_Strict):
    """A stream whose subject changes."""

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
        """The first segment of each subject."""
        return list({segment.subject: segment for segment in reversed(self.segments)}.values())[::-1]

    def lengths(self, samples: int | None = None) -> list[int]:
        """Return the number of records of each segment, at most ``samples`` each."""
        used: Counter[object] = Counter()
        lengths = []
        for segment in self.segments:
            left = segment.pool_size - used[segment.pool]
            length = left if segment.count is None else segment.count
            used[segment.pool] += length
            lengths.append(length if samples is None else min(length, samples))
        return lengths

    def total(self, samples: int | None = None) -> int:
        """Return the number of records, including malformed ones, which replace rows."""
        return sum(self.lengths(samples))

    def blends(self, samples: int | None = None) -> list[int]:
        """Return each segment's blend, always even, shortened in proportion to the shorter side."""
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
                    f"segments.{index}.count: {segment.count or 'all'} rows are requested, and earlier"
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
    """Return the built-in scenarios, sorted by name."""
    return [load_scenario(str(path)) for path in sorted(SHIPPED.glob("*.yaml"))]


def load_scenario(name_or_path: str) -> Scenario:
    """Return a built-in scenario by name, or one from a YAML file by path (see `find_file`).

    Raises InvalidScenario, which names the file and the key.
    """
    path = find_file(name_or_path, SHIPPED, "scenario", InvalidScenario)
    return read_model(path, Scenario, "scenario", InvalidScenario)
