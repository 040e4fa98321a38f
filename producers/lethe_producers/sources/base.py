"""What a source is: labelled images or vectors in rows, and the classes that their labels stand for.

Arrays carry their shape in their names: N rows, C channels, H height, W width, F numbers of a vector.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, PrivateAttr, ValidationInfo, model_validator
from pydantic_core import CoreSchema

from lethe.wire import Labels, Pixels

__all__ = ["Classes", "Facts", "Integers", "Part", "Rows", "Source", "SourceContext", "rows_of_array"]

Integers = npt.NDArray[np.int64]
Part = Literal["train", "test"]
"""The rows that are streamed, or those that are held out."""


@dataclass(frozen=True, slots=True)
class SourceContext:
    """Where files are: data sets under ``root``, a scenario's own files relative to ``folder``."""

    root: Path
    folder: Path = field(default_factory=Path)

    @classmethod
    def of(cls, info: ValidationInfo) -> Self | None:
        """Return the context of a validation, or None if it has none."""
        return info.context if isinstance(info.context, cls) else None


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of a source: labels are 0 to ``count`` − 1.

    ``names`` is empty or has a name for each label. If ``by_name``, labels are only places in ``names``:
    in a scenario, the same name is the same class in every such source.
    """

    count: int
    names: tuple[str, ...] = ()
    by_name: bool = False

    @classmethod
    def named(cls, names: list[str]) -> tuple[Self, dict[str, int]]:
        """Return the classes of records labelled with ``names``, and the label of each name.

        Names that are all decimal numbers are the labels themselves.

        >>> Classes.named(["dog", "cat"])[1], Classes.named(["3", "10"])[1]
        ({'cat': 0, 'dog': 1}, {'3': 3, '10': 10})
        """
        distinct = sorted(set(names))
        if distinct and all(name.isdecimal() and len(name) < 6 for name in distinct):
            numbers = {name: int(name) for name in sorted(distinct, key=int)}
            return cls(max(numbers.values()) + 1), numbers
        return cls(len(distinct), tuple(distinct), by_name=True), {n: i for i, n in enumerate(distinct)}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a scenario has to know of a source: the number of rows of each class, and their shape."""

    rows_of_class: tuple[int, ...]
    shape: tuple[int, ...]
    """Channels, height, width; of vectors, their length."""
    classes: Classes


@dataclass(frozen=True, slots=True)
class Rows:
    """Labelled images or vectors of one `Part`, in the source's own order.

    ``read`` returns the images of the given rows, uint8 of shape [len(rows), C, H, W], or their vectors,
    float32 of shape [len(rows), F]. It raises DataUnavailable, naming the file or the row, for an image that
    cannot be read or has another shape.
    """

    y_N: Labels
    shape: tuple[int, ...]
    classes: Classes
    read: Callable[[Integers], Pixels]

    def __len__(self) -> int:
        return len(self.y_N)

    def chosen(self, rows: Integers) -> Self:
        """Return those rows, in that order."""
        return replace(self, y_N=self.y_N[rows], read=lambda nth: self.read(rows[nth]))


def rows_of_array(x_NCHW: Pixels, y_N: Labels, classes: Classes) -> Rows:
    """Return the rows of images or vectors in memory."""
    return Rows(y_N, x_NCHW.shape[1:], classes, lambda rows: x_NCHW[rows])


class Source(BaseModel, ABC):
    """A source of labelled samples, as a scenario names it; one of its keys stands alone as a string."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    short: ClassVar[str]
    """The key that is meant if the source is given as a string."""

    _folder: Path = PrivateAttr(default_factory=Path)

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, given: object) -> object:
        return {cls.short: given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _locate(self, info: ValidationInfo) -> Self:
        if context := SourceContext.of(info):
            self._folder = context.folder
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        whole = handler.resolve_ref_schema(handler(schema))
        field: Mapping[str, Any] = whole["properties"][cls.short]
        return {"anyOf": [{"type": "string", "description": field.get("description", "")}, dict(whole)]}

    @property
    @abstractmethod
    def title(self) -> str:
        """The source in words, for probe files and messages."""

    @property
    @abstractmethod
    def licence(self) -> str:
        """Why its samples may be used, for probe files."""

    @abstractmethod
    def rows(self, part: Part, root: Path) -> Rows:
        """Open a part of the source. Raises DataUnavailable if files are missing or unreadable."""

    def facts(self, part: Part, root: Path) -> Facts:
        """Return what a scenario has to know; raises as `rows`."""
        rows = self.rows(part, root)
        counts = np.bincount(rows.y_N, minlength=rows.classes.count)
        return Facts(tuple(counts.tolist()), rows.shape, rows.classes)

    @property
    def ordered(self) -> bool:
        """Whether rows are streamed in their own order, and not shuffled."""
        return False

    @property
    def key(self) -> object:
        """What identifies the source: equal keys are the same rows."""
        given = self.model_dump(exclude_defaults=True)
        return (type(self).__name__.lower(), *sorted((name, str(value)) for name, value in given.items()))
