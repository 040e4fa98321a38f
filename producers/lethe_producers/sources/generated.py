"""Rows that a generator of river draws, as a source: streams of known concepts."""

import json
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Any, ClassVar, Final, Literal

import numpy as np
from pydantic import Field, JsonValue

from lethe.errors import DataUnavailable
from lethe_producers.sources.base import Classes, Facts, Part, Rows, Source, rows_of_array

__all__ = ["Synth"]

GENERATORS: Final = {"agrawal": ("Agrawal", 9), "sea": ("SEA", 3), "sine": ("Sine", 2)}
"""Class in river.datasets.synth, and numbers of a row; all have two classes."""
HELD_OUT: Final = 2_000
"""Rows of the test part."""
_DRAWS: Final = 50  # per row that is wanted: a class may be rare
_OTHER_SEED: Final = 1_000_003  # of the test part


class Synth(Source):
    """A generator of river.datasets.synth: agrawal, loan applications; sea and sine, numbers and a boundary.

    Equally many rows are drawn of each class.
    """

    short: ClassVar[str] = "generator"

    generator: Literal["agrawal", "sea", "sine"]
    """Which one."""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Arguments of river's class, such as classification_function, which makes a concept."""
    rows_drawn: int = Field(default=20_000, ge=2, alias="rows")
    """Rows of the streamed part; the test part has 2,000 others."""
    seed: int = Field(default=0, ge=0)
    """Seed of the rows."""

    @property
    def title(self) -> str:
        """The generator with its arguments."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.generator}({given})"

    @property
    def licence(self) -> str:
        """Nobody's data."""
        return "synthetic"

    def facts(self, part: Part, root: Any) -> Facts:
        """Return what is known without drawing."""
        del root
        half = self._count(part) // 2
        return Facts((half, half), (GENERATORS[self.generator][1],), Classes(2))

    def rows(self, part: Part, root: Any) -> Rows:
        """Draw a part. Raises DataUnavailable without river, and for arguments that it does not take."""
        del root
        seed = self.seed if part == "train" else self.seed + _OTHER_SEED
        return _drawn(self.generator, json.dumps(self.arguments, sort_keys=True), self._count(part), seed)

    def _count(self, part: Part) -> int:
        return (self.rows_drawn if part == "train" else HELD_OUT) // 2 * 2


@cache  # a stream and its probes draw the same
def _drawn(generator: str, arguments: str, count: int, seed: int) -> Rows:
    name, numbers = GENERATORS[generator]
    x_NF, y_N = np.empty((count, numbers), np.float32), np.empty(count, np.int64)
    left, row = {0: count // 2, 1: count // 2}, 0
    for vector, label in islice(_stream(name, json.loads(arguments), seed), _DRAWS * count):
        if not left[label]:
            continue
        x_NF[row], y_N[row] = vector, label
        left[label] -= 1
        row += 1
        if row == count:
            return rows_of_array(x_NF, y_N, Classes(2))
    scarce = max(left, key=left.__getitem__)
    raise DataUnavailable(f"{generator}({arguments}) draws hardly any rows of class {scarce}")


def _stream(name: str, arguments: dict[str, Any], seed: int) -> Iterator[tuple[list[float], int]]:
    try:
        from river.datasets import synth
    except ModuleNotFoundError as error:
        raise DataUnavailable("synth draws with river: install lethe[river]") from error
    try:
        for numbers, label in getattr(synth, name)(**arguments, seed=seed):
            yield list(numbers.values()), int(label)
    except (TypeError, ValueError) as error:
        raise DataUnavailable(f"synth: {name} of river fails: {' '.join(str(error).split())}") from error
