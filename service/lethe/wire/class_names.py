"""Names of classes, numbered in the order in which they first appear."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lethe.errors import InvalidFile, MalformedRecord
from lethe.wire.dead_letter_reasons import Reason

__all__ = ["LONGEST_NAME", "ClassNames", "is_class_name", "read_class_names"]

LONGEST_NAME: Final = 64
"""Maximum characters of a name."""


def is_class_name(name: object) -> bool:
    """Return whether ``name`` is a printable string of 1 to `LONGEST_NAME` characters."""
    return isinstance(name, str) and name.isprintable() and 0 < len(name) <= LONGEST_NAME


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the names in a UTF-8 file, one a line. Raises InvalidFile, naming the line, for a bad one."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidFile(f"{path} cannot be read as a list of names: {error}") from error
    seen: dict[str, int] = {}
    for number, name in enumerate(lines, 1):
        if not is_class_name(name):
            raise InvalidFile(
                f"{path}, line {number}: a name has 1 to {LONGEST_NAME} characters, all of them printable"
            )
        if name in seen:
            raise InvalidFile(f"{path}, line {number}: {name!r} is in line {seen[name]} already")
        seen[name] = number
    return tuple(lines)


class ClassNames:
    """The number of each name: ``names`` come first, others follow as they appear, ``most`` in all."""

    def __init__(self, names: Sequence[str], most: int) -> None:
        self._numbers = {name: number for number, name in enumerate(names)}
        self._most = most
        self.names = tuple(names)
        """The names so far, by number."""

    def find(self, header: bytes) -> tuple[int, str]:
        """Return the number and the name that a ``label`` header holds; a new name has the next number.

        Raises MalformedRecord for a header that is no name, and for a new name where there are ``most``.
        """
        try:
            name = header.decode()
        except UnicodeDecodeError:
            raise MalformedRecord(Reason.BAD_HEADER, "label is not UTF-8") from None
        number = self._numbers.get(name)
        if number is not None:
            return number, name
        if not is_class_name(name):
            raise MalformedRecord(
                Reason.BAD_HEADER, f"label does not have 1 to {LONGEST_NAME} printable characters"
            )
        if len(self.names) >= self._most:
            raise MalformedRecord(
                Reason.LABEL_OUT_OF_RANGE, f"label is none of the {self._most} classes that there may be"
            )
        return len(self.names), name

    def add(self, name: str) -> None:
        """Number ``name``, of a record that is valid in every other respect, unless it has a number."""
        if name not in self._numbers:
            self._numbers[name] = len(self.names)
            self.names += (name,)
