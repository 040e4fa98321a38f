"""What part of the stream each partition has to give before ``stream.stop_after`` is reached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, cast

from pydantic import TypeAdapter

from lethe.learners.state import JSON
from lethe.stream.source import Position

__all__ = ["Shares"]


@dataclass(frozen=True, slots=True)
class Shares:
    """How a run is divided between partitions, and how far each rank's rotation is; kept in checkpoints.

    Partitions are shared by their offsets and not by counts of records, so that any number of ranks can
    continue: none of them depends on who read what before.
    """

    begins: Mapping[int, int]
    """By partition, the offset at which the run began."""
    turns: tuple[int, ...] = ()
    """By rank, the index among its partitions of the one that is next."""

    @classmethod
    def of_single(cls, position: Position, records: int) -> Self:
        """Return the shares of a service that alone took ``records`` in rotation, up to ``position``."""
        taken = _rotated(position.offsets, records)
        return cls({p: offset - taken[p] for p, offset in position.offsets.items()})

    @classmethod
    def from_json(cls, stored: JSON) -> Self:
        """Return the shares that `to_json` returned."""
        return TypeAdapter(cls).validate_python(stored)

    def to_json(self) -> JSON:
        """Return what a checkpoint stores."""
        return cast("JSON", TypeAdapter(type(self)).dump_python(self, mode="json"))

    def with_turns(self, turns: Sequence[int]) -> Self:
        """Return these shares with other turns."""
        return replace(self, turns=tuple(turns))

    def until(self, records: int | None) -> dict[int, int] | None:
        """Return the offset at which each partition ends, so that all give ``records``; None for no end.

        >>> Shares({0: 10, 1: 0, 2: 0}).until(8)
        {0: 13, 1: 3, 2: 2}
        """
        if records is None:
            return None
        taken = _rotated(self.begins, records)
        return {p: begin + taken[p] for p, begin in self.begins.items()}


def _rotated(partitions: Mapping[int, Any], records: int) -> dict[int, int]:
    """Return how many of ``records`` that are taken in rotation come from each partition."""
    count = len(partitions)
    return {p: max(0, -((index - records) // count)) for index, p in enumerate(sorted(partitions))}
