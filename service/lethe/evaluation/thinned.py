"""A series of bounded length that keeps evenly spaced items."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["Thinned"]

_Item = TypeVar("_Item")


@dataclass(slots=True)
class Thinned(Generic[_Item]):
    """At most ``most`` items: when there are too many, every second one is dropped, also of later items.

    Its fields are its JSON.

    >>> series = Thinned(most=3)
    >>> for number in range(10):
    ...     series.add(number)
    >>> series.kept
    [0, 4, 8]
    """

    most: int
    kept: list[_Item] = field(default_factory=list)
    seen: int = 0
    stride: int = 1

    def add(self, item: _Item) -> None:
        """Add the next item of the series."""
        if self.seen % self.stride == 0:
            self.kept.append(item)
        self.seen += 1
        if len(self.kept) > self.most:
            del self.kept[1::2]
            self.stride *= 2
