"""Labels given as numbers or names, and how many classes there are."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from lethe.runtime.from_python.samples import Data, as_arrays, is_sized

__all__ = ["Classes", "classes_of"]

FEWEST: Final = 2
"""A layout has at least two classes."""


class Classes:
    """The classes of a stream: how many there are, and their names if they have any."""

    def __init__(self, count: int, names: Sequence[str] = ()) -> None:
        self.count, self.names = count, tuple(names)
        self._places: Mapping[str, int] = {name: place for place, name in enumerate(self.names)}

    def label(self, given: Any, where: str) -> int:
        """Return the label of a class given as a number or a name.

        Raises ValueError, naming ``where``, for one that is not a class.
        """
        if isinstance(given, str):
            if given not in self._places:
                known = ", ".join(self.names) if self.names else "numbers"
                raise ValueError(f"{where}: the label {given!r} is not a class; the classes are {known}")
            return self._places[given]
        try:
            label = int(given)
        except (TypeError, ValueError):
            raise ValueError(
                f"{where}: a label is {type(given).__name__}, expected a number or a name"
            ) from None
        if label != given or not 0 <= label < self.count:
            raise ValueError(f"{where}: the label {given} is not from 0 to {self.count - 1}")
        return label


def classes_of(given: int | Sequence[str] | None, sources: Iterable[tuple[str, Data]]) -> Classes:
    """Return the classes ``given``, or else those of the labels in ``sources``.

    The names are those that a data set offers as ``classes``, as torchvision's do, or the sorted names that
    are labels. Raises ValueError where labels are not known before they are read.
    """
    if isinstance(given, int):
        return Classes(given)
    if given is not None:
        return Classes(len(given), given)
    sources = list(sources)
    offered = {tuple(map(str, names)) for _, data in sources if (names := getattr(data, "classes", None))}
    if len(offered) == 1:
        names = offered.pop()
        return Classes(len(names), names)
    if offered:
        raise ValueError("classes: the data sets have different names of classes; give classes=[…]")
    seen: set[Any] = set()
    for where, data in sources:
        seen.update(_labels(where, data))
    if all(isinstance(label, str) for label in seen):
        names = tuple(sorted(seen))
        return Classes(max(FEWEST, len(names)), names if len(names) >= FEWEST else ())
    if any(isinstance(label, str) for label in seen):
        raise ValueError("classes: some labels are numbers and some are names; give classes=[…]")
    return Classes(max(FEWEST, 1 + max(int(label) for label in seen)))


def _labels(where: str, data: Data) -> Iterable[Any]:
    if (arrays := as_arrays(data)) is not None:
        labels = arrays[1]
    elif (targets := getattr(data, "targets", None)) is not None:
        labels = np.asarray(targets)
    elif is_sized(data):
        return [data[index][1] for index in range(len(data))]
    else:
        raise ValueError(
            f"classes: those of {where} are not known before its iterator is read; give classes=10, or names"
        )
    found: list[Any] = np.unique(labels).tolist()
    return found
