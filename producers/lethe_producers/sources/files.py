"""Sources that are files of the user's own, of which a share is held out."""

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from lethe.errors import DataUnavailable
from lethe.wire import Labels
from lethe_producers.sources.base import Integers, Part, Rows, Source

__all__ = ["FileSource", "held_out"]


class FileSource(Source):
    """Files that have no test part of their own."""

    short: ClassVar[str] = "path"

    path: str = Field(min_length=1)
    """Where it is; a relative path begins at the scenario's file."""
    holdout: float = Field(default=0.2, gt=0, lt=1)
    """Share of each class that is held out of the stream, for the probe."""
    consent: str = "not stated"
    """Why these samples may be kept as a probe; it is written into the probe file."""

    @property
    def place(self) -> Path:
        """The path with its folder."""
        return self._folder / Path(self.path).expanduser()

    @property
    def title(self) -> str:
        """The path, as it was given."""
        return self.path

    @property
    def licence(self) -> str:
        """The consent, as it was given."""
        return self.consent

    def rows(self, part: Part, root: Path) -> Rows:  # noqa: ARG002 - other sources are under the root
        """Open a part. Raises DataUnavailable if it cannot be read or has no rows."""
        every = self.every_row()
        if not len(every):
            raise DataUnavailable(f"{self.place} holds no labelled rows")
        held = held_out(every.y_N, self.holdout)
        return every.chosen(np.flatnonzero(held if part == "test" else ~held))

    @abstractmethod
    def every_row(self) -> Rows:
        """Open all rows of both parts. Raises DataUnavailable."""


def held_out(y_N: Labels, share: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return which rows are held out: ``share`` of each class, at least one of a class with two rows.

    The choice depends on labels, order and share alone.
    """
    held = np.zeros(len(y_N), np.bool_)
    for label in np.unique(y_N).tolist():
        rows: Integers = np.flatnonzero(y_N == label)
        wanted = min(len(rows) - 1, max(1, round(share * len(rows))))
        held[np.random.default_rng(label).permutation(rows)[:wanted]] = True
    return held
