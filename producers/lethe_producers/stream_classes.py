"""The classes of a stream, made of those of its sources."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from lethe_producers.sources.base import Classes

__all__ = ["StreamClasses"]


@dataclass(frozen=True, slots=True)
class StreamClasses:
    """The number of classes, and their names in the order of the labels, if they have names."""

    count: int
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, sources: Sequence[Classes], names: tuple[str, ...] | None = None) -> Self:
        """Return the classes of a stream of ``sources``; ``names`` fixes them and their order.

        Sources with classes by name have all their names, in the order of first appearance. Sources with
        numbers share the numbers, under the sources' names if they agree. Raises ValueError for both kinds in
        one stream, and for ``names`` that lack a class.

        >>> StreamClasses.of([Classes(2, ("cat", "dog"), True), Classes(2, ("bird", "cat"), True)])
        StreamClasses(count=3, names=('cat', 'dog', 'bird'))
        >>> StreamClasses.of([Classes(10), Classes(10, tuple("abcdefghij"))])
        StreamClasses(count=10, names=())
        """
        if names is not None and len(set(names)) < len(names):
            raise ValueError("classes: a name is given twice")
        named = [source.by_name for source in sources]
        if any(named) and not all(named):
            index = named.index(not named[0])
            raise ValueError(
                f"segments.{index}: the labels of its source are {'names' if named[index] else 'numbers'},"
                " those of the first segment are not; name its folders or labels alike"
            )
        count = max(source.count for source in sources)
        if all(named):
            found = dict.fromkeys(name for source in sources for name in source.names)
            if names is not None and (missing := [name for name in found if name not in names]):
                raise ValueError(f"classes: {', '.join(missing)} is missing")
            every = names or tuple(found)
            if len(every) < 2:
                raise ValueError(f"segments: {every[0]} is the only class of all sources; there must be two")
            return cls(len(every), every)
        if names is not None:
            if len(names) < count:
                raise ValueError(f"classes: {len(names)} names, but the sources have {count} classes")
            return cls(len(names), names)
        distinct = {source.names for source in sources}
        agreed = distinct.pop() if len(distinct) == 1 else ()
        return cls(max(2, count), agreed)

    def labels_of(self, source: Classes) -> tuple[int, ...]:
        """Return, for each label of ``source``, its label in the stream."""
        if not source.by_name:
            return tuple(range(source.count))
        return tuple(self.names.index(name) for name in source.names)
