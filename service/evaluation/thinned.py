"""A long series of which evenly spaced items are kept, so that it never grows beyond a bound."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["Thinned"]

_Item = TypeVar("_Item")


@dataclass(slots=True)
class Thinned(Generic[_Item]):
    """At most ``most`` items: when they are too many, every other one is dropped, here and from then on.

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
        """Take in the next item of the series."""
        if self.seen % self.stride == 0:
            self.kept.append(item)
        self.seen += 1
        if len(self.kept) > self.most:
            del self.kept[1::2]
            self.stride *= 2
