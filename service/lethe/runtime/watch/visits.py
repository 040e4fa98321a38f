"""Visits of a watched model that its users announce: another segment or version begins.

They do so with ``POST /visit``, or in a file of JSON lines that a training job appends to::

    {"segment": "fashion-mnist", "version": "7"}

Both fields are optional. The probe that improved most names a visit without a segment.
"""

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lethe.evaluation.objective import sampling_noise
from lethe.files.bounded_json import read_json

__all__ = ["Visit", "VisitFile", "Visits", "riser"]

logger = logging.getLogger("lethe")

MOST_WAITING: Final = 64
"""Announced visits that wait for the next round; further ones are refused."""


@dataclass(frozen=True, slots=True)
class Visit:
    """The model is being trained on another segment, or another version of it serves."""

    segment: str | None = None
    """The name of the segment's probe; None if the user does not say."""
    version: str | None = None


class Visits:
    """Visits that other threads announce, in order, until the loop takes them."""

    def __init__(self) -> None:
        self._lock, self._waiting = threading.Lock(), list[Visit]()

    def add(self, segment: str | None, version: str | None) -> bool:
        """Add a visit; return False if too many wait already."""
        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                return False
            self._waiting.append(Visit(segment, version))
            return True

    def take(self) -> list[Visit]:
        """Return the visits that were added since the last call."""
        with self._lock:
            taken, self._waiting = self._waiting, []
        return taken


class VisitFile:
    """Reads the visits that are appended to ``path``; ``read`` lines of it were read before a restart."""

    def __init__(self, path: Path | None, probes: Sequence[str], read: int = 0) -> None:
        self._path, self._probes, self.read = path, probes, read

    def take(self) -> list[Visit]:
        """Return the visits in new complete lines; a line that is none is logged and skipped."""
        if self._path is None or not self._path.exists():
            return []
        lines = self._path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
        if len(lines) < self.read:
            logger.warning("%s was shortened: it is read from its beginning", self._path)
            self.read = 0
        new, self.read = lines[self.read :], len(lines)
        return [visit for line in new if line.strip() and (visit := self._parsed(line)) is not None]

    def _parsed(self, line: str) -> Visit | None:
        try:
            found = read_json(line)
        except ValueError as error:
            logger.warning("%s: a line is not JSON and is skipped: %s", self._path, error)
            return None
        known = {"segment", "version"}
        if not isinstance(found, dict) or not found.keys() <= known or not _are_texts(found.values()):
            logger.warning("%s: a line is skipped, it must be an object of segment and version", self._path)
            return None
        if found.get("segment") not in (None, *self._probes):
            logger.warning(
                "%s: a visit is skipped, no probe has the name of its segment; probes are %s",
                self._path,
                ", ".join(self._probes),
            )
            return None
        return Visit(found.get("segment"), found.get("version"))


def riser(before: dict[str, float], now: dict[str, float], images: dict[str, int]) -> str | None:
    """Return the probe whose accuracy rose most, if by more than noise: what the model was trained on.

    >>> riser({"mnist": 0.95, "fashion": 0.1}, {"mnist": 0.4, "fashion": 0.8}, {"mnist": 500, "fashion": 500})
    'fashion'
    """
    rises = {name: now[name] - before[name] for name in now}
    best = max(rises, key=lambda name: rises[name])
    noise = max(sampling_noise(accuracy[best], images[best]) for accuracy in (before, now))
    return best if rises[best] > max(noise, 1 / images[best]) else None


def _are_texts(values: Iterable[object]) -> bool:
    return all(value is None or isinstance(value, str) for value in values)
