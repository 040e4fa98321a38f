"""Splits of a scenario's sources: what is streamed, what is held out of it, and what is tested on."""

from pathlib import Path
from typing import Final, Literal

import numpy as np

from lethe_producers.scenario import Segment
from lethe_producers.sources.base import Part, Rows

__all__ = ["Split", "probe_rows", "rows_of", "validation_size"]

Split = Literal["validation", "test"]
"""Rows for a probe: the last of those that are streamed, or those of the part that is not."""

_OTHER: Final[dict[Part, Part]] = {"train": "test", "test": "train"}
_MOST: Final = 10_000


def validation_size(rows: Rows) -> int:
    """Return how many rows at the end are the validation split: a sixth, at most 10,000."""
    return min(_MOST, len(rows) // 6)


def rows_of(rows: Rows, segment: Segment) -> Rows:
    """Return the rows of the classes of ``segment``, with the source's labels."""
    return rows if segment.classes is None else rows.chosen(np.flatnonzero(np.isin(rows.y_N, segment.labels)))


def probe_rows(segment: Segment, split: Split, root: Path) -> Rows:
    """Return the rows of ``split`` in the source's own order. Raises DataUnavailable."""
    if split == "test":
        return rows_of(segment.source.rows(_OTHER[segment.split], root), segment)
    rows = segment.source.rows(segment.split, root)
    return rows_of(rows.chosen(np.arange(len(rows) - validation_size(rows), len(rows))), segment)
