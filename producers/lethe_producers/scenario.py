"""Scenarios: streams described in YAML as a list of segments, each of one source."""

from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PrivateAttr,
    ValidationInfo,
    model_validator,
)
from pydantic_core import CoreSchema

from lethe.errors import DataUnavailable, InvalidScenario
from lethe.files.yaml import find_file, read_model
from lethe.wire import Layout
from lethe_producers.datasets import DatasetName, default_root
from lethe_producers.sources.arrays import Npy, Npz
from lethe_producers.sources.base import Facts, Part, Source, SourceContext
from lethe_producers.sources.files import FileSource
from lethe_producers.sources.folder import Folder
from lethe_producers.sources.generated import Synth
from lethe_producers.sources.pinned import PinnedDataset
from lethe_producers.sources.tables import Csv, Parquet
from lethe_producers.sources.torchvision_datasets import TorchvisionDataset
from lethe_producers.stream_classes import StreamClasses
from lethe_producers.transforms import Transform, transformed

__all__ = ["SHIPPED", "Loop", "Scenario", "Segment", "load_scenario", "scenario_schema", "shipped_scenarios"]

SHIPPED: Final = Path(__file__).parent / "scenarios"

SOURCES: Final = ("dataset", "torchvision", "folder", "npz", "npy", "parquet", "csv", "synth")
"""The keys of a segment that name a source."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]
"""Restricted because it becomes a Kafka key, a header, a metric's label and a file name."""
Share = Annotated[float, Field(ge=0, le=1)]
Loop = Literal["stream", "segment"]
Class = Annotated[int, Field(ge=0)] | str


def _as_list(given: object) -> object:
    return [given] if isinstance(given, dict | Transform) else given


class _OneOrMore:
    """Lets the JSON Schema of a list accept one item alone, too."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        several = handler(schema)
        return {"anyOf": [several["items"], several]}


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Segment(_Strict):
    """A part of the stream with one subject and exactly one source."""

    subject: Name
    """The ``segment`` header and the name of the probe; a recurring subject keeps its name."""
    dataset: DatasetName | None = None
    """Source: a data set whose files are pinned."""
    torchvision: TorchvisionDataset | None = None
    """Source: a class of torchvision.datasets."""
    folder: Folder | None = None
    """Source: a folder of pictures, one folder for each label."""
    npz: Npz | None = None
    """Source: arrays of numpy in one file."""
    npy: Npy | None = None
    """Source: arrays of numpy in two files."""
    parquet: Parquet | None = None
    """Source: a table, each row a vector, in a Parquet file."""
    csv: Csv | None = None
    """Source: a table, each row a vector, in a CSV file."""
    synth: Synth | None = None
    """Source: vectors that a generator of river draws."""
    split: Part = "train"
    """The part of the source that is streamed; the probe is the other one."""
    count: int | None = Field(default=None, ge=1)
    """Number of rows; by default all that earlier segments left."""
    classes: Annotated[tuple[Class, ...], Field(min_length=1)] | None = None
    """Only rows of these classes, by label or name, with their own labels; by default all classes."""
    seed: int = Field(default=0, ge=0)
    """Seed of the shuffle. Segments with the same source, classes and seed share one shuffle, and each
    continues where the one before ended: no row is used twice."""
    transform: Annotated[tuple[Transform, ...], BeforeValidator(_as_list), _OneOrMore] = ()
    """A transform, or a list of them, which are applied one after the other."""
    blend: int = Field(default=0, ge=0)
    """Number of samples over which rows mix with those of the next segment; 0 is an abrupt switch."""
    malformed: Share = 0.0
    """Share of records that are malformed, in equal numbers for every reason."""
    label_noise: Share = 0.0
    """Share of rows with a wrong label."""

    _facts: Facts = PrivateAttr()

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"not both {' and '.join(given)}" if given else "and has none"
            raise ValueError(f"needs one source of {', '.join(SOURCES)}, {found}")
        return self

    @model_validator(mode="after")
    def _distinct_classes(self) -> Self:
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise ValueError("classes names a class twice")
        return self

    @property
    def source_key(self) -> str:
        """The key that names the source."""
        return next(name for name in SOURCES if getattr(self, name) is not None)

    @cached_property
    def source(self) -> Source:
        """Where the rows come from."""
        if self.dataset is not None:
            return PinnedDataset(name=self.dataset)
        source: Source = getattr(self, self.source_key)
        return source

    @property
    def facts(self) -> Facts:
        """Rows, classes and shape of the streamed part of the source; known once it is in a scenario."""
        return self._facts

    @property
    def labels(self) -> tuple[int, ...]:
        """The source's own labels of the segment's classes, in ascending order."""
        known = self._facts.classes
        if self.classes is None:
            return tuple(range(known.count))
        return tuple(sorted(known.names.index(c) if isinstance(c, str) else c for c in self.classes))

    @cached_property  # it is asked for with every record
    def pool(self) -> tuple[object, tuple[int, ...], int]:
        """Source, labels and seed: they determine the rows that are shuffled together."""
        key = self.source.key
        return key if self.split == "train" else (key, self.split), self.labels, self.seed

    @property
    def pool_size(self) -> int:
        """Number of rows in the pool."""
        return sum(self._facts.rows_of_class[label] for label in self.labels)

    def learn_facts(self, facts: Facts) -> None:
        """Take note of what is known of the source. Raises ValueError for classes that it does not have."""
        for given in self.classes or ():
            names = facts.classes.names
            known = given in names if isinstance(given, str) else given < facts.classes.count
            if isinstance(given, int) and facts.classes.by_name:
                raise ValueError(f"{given} is not the name of a class: {self.source.title} has {_few(names)}")
            if not known:
                of = _few(names) if isinstance(given, str) else f"0 to {facts.classes.count - 1}"
                raise ValueError(f"{given} is not a class of {self.source.title}, which has {of}")
        self._facts = facts
        self.__dict__.pop("pool", None)  # its labels may have been those of other facts


class Scenario(_Strict):
    """A stream whose subject changes."""

    name: Name
    """What tables, keys of records and reports call it."""
    description: str = ""
    """One sentence for the list of scenarios."""
    classes: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    """Names of the classes, in the order of their labels. By default those of the sources: a class that a
    source adds later would renumber the others."""
    rate: float | None = Field(default=None, ge=0.01)
    """Records per second, unless --rate gives another number; by default as fast as possible."""
    loop: Loop | None = None
    """Without an end: stream begins again at the end, segment repeats the last segment; each time in another
    order. lethe demo streams one lap."""
    segments: Annotated[tuple[Segment, ...], Field(min_length=1)]
    """What is streamed, in this order."""

    _labels: StreamClasses = PrivateAttr()
    _shape: tuple[int, ...] = PrivateAttr()

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Self:
        context = SourceContext.of(info) or SourceContext(default_root())
        self._learn_facts(context.root)
        self._labels = StreamClasses.of([segment.facts.classes for segment in self.segments], self.classes)
        self._shape = self._common_shape()
        self._check_subjects()
        self._check_holdouts()
        self._check_pools()
        self._check_blends()
        return self

    @property
    def datasets(self) -> list[DatasetName]:
        """The pinned data sets, sorted by name."""
        return sorted({segment.dataset for segment in self.segments if segment.dataset is not None})

    @property
    def layout(self) -> Layout:
        """Shape and classes of every record, and the largest value: that of raw pixels."""
        if len(self._shape) == 1:
            return Layout(features=self._shape[0], classes=self._labels.count)
        channels, height, width = self._shape
        return Layout(
            channels=channels,
            height=height,
            width=width,
            classes=self._labels.count,
            max_bytes=max(Layout().max_bytes, channels * height * width),
        )

    @property
    def stream_classes(self) -> StreamClasses:
        """The classes of the whole stream."""
        return self._labels

    @property
    def subjects(self) -> list[Segment]:
        """The first segment of each subject."""
        return list({segment.subject: segment for segment in reversed(self.segments)}.values())[::-1]

    def labels_of(self, segment: Segment) -> tuple[int, ...]:
        """Return, for each label of the source of ``segment``, its label in the stream."""
        return self._labels.labels_of(segment.facts.classes)

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

    def _learn_facts(self, root: Path) -> None:
        known: dict[object, Facts] = {}
        for index, segment in enumerate(self.segments):
            source, where = segment.source, f"segments.{index}.{segment.source_key}"
            key = (source.key, segment.split)
            try:
                if key not in known:
                    known[key] = source.facts(segment.split, root)
            except (DataUnavailable, InvalidScenario) as error:
                raise ValueError(f"{where}: {error}") from error
            try:
                segment.learn_facts(known[key])
            except ValueError as error:
                raise ValueError(f"segments.{index}.classes: {error}") from error

    def _common_shape(self) -> tuple[int, ...]:
        shapes: list[tuple[int, ...]] = []
        for index, segment in enumerate(self.segments):
            shape = segment.facts.shape
            if len(shape) == 1 and segment.transform:
                raise ValueError(
                    f"segments.{index}.transform: the source has vectors, and transforms are of images"
                )
            if any(transform.torchvision for transform in segment.transform):
                try:
                    blank = transformed(np.zeros((1, *shape), np.uint8), segment.transform)
                except ValueError as error:
                    raise ValueError(f"segments.{index}.transform: {error}") from error
                shape = blank.shape[1:]
            shapes.append(shape)
            if shape != shapes[0]:
                raise ValueError(
                    f"segments.{index}.{segment.source_key}: its {_by(shape)}, those of the first segment"
                    f" {_by(shapes[0])}; size and channels of a source of images, or the transforms Resize"
                    " and Grayscale, change that"
                )
        return shapes[0]

    def _check_subjects(self) -> None:
        first = {segment.subject: segment for segment in self.subjects}
        for index, segment in enumerate(self.segments):
            met = first[segment.subject]
            for key in (*SOURCES, "split", "classes", "transform"):
                if getattr(segment, key) != getattr(met, key):
                    raise ValueError(
                        f"segments.{index}.{key}: subject {segment.subject} had another {key} before,"
                        " and one probe cannot measure both"
                    )

    def _check_holdouts(self) -> None:
        parts: dict[object, tuple[float | None, Part]] = {}
        for index, segment in enumerate(self.segments):
            source = segment.source
            held, place = (
                (source.holdout, source.place) if isinstance(source, FileSource) else (None, source.key)
            )
            if parts.setdefault(place, (held, segment.split)) != (held, segment.split):
                raise ValueError(
                    f"segments.{index}.{segment.source_key}: {source.title} had another holdout or split"
                    " before, and rows of its probe would be streamed"
                )

    def _check_pools(self) -> None:
        used: Counter[object] = Counter()
        pools = {segment.pool for segment in self.segments}
        for index, (segment, length) in enumerate(zip(self.segments, self.lengths(), strict=True)):
            (key, labels, seed), name = segment.pool, segment.source.title
            left = segment.pool_size - used[segment.pool]
            if length < 1 or length > left:
                raise ValueError(
                    f"segments.{index}.count: {segment.count or 'all'} rows are requested, and earlier"
                    f" segments left {left} of {segment.pool_size} ({name}, seed {seed}):"
                    " give each segment a count, or another seed"
                )
            used[segment.pool] += length
            for other in pools - {segment.pool}:
                if (other[0], other[2]) == (key, seed) and set(other[1]) & set(labels):
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


def load_scenario(name_or_path: str, root: Path | None = None) -> Scenario:
    """Return a built-in scenario by name, or one from a YAML file by path (see `find_file`).

    Sources other than the pinned data sets are opened, and those of torchvision downloaded to ``root``, by
    default `default_root`: the scenario's length, classes and shape depend on them. Raises InvalidScenario,
    which names the file, the line and the key, also for a source that is missing.
    """
    path = find_file(name_or_path, SHIPPED, "scenario", InvalidScenario)
    context = SourceContext(root or default_root(), path.parent)
    return read_model(path, Scenario, "scenario", InvalidScenario, context)


def scenario_schema() -> dict[str, Any]:
    """Return the JSON Schema of a scenario's file."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Lethe scenario"}
    return {**head, **Scenario.model_json_schema(), **head}


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "") if names else "no names of classes"


def _by(shape: tuple[int, ...]) -> str:
    if len(shape) == 1:
        return f"vectors have {shape[0]} numbers"
    return f"images have shape {' × '.join(map(str, shape))}"
