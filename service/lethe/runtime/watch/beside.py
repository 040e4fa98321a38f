"""Models that other services watch, read from the run.json that each of them writes."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from lethe.errors import InvalidFile
from lethe.observability.model_standing import ModelStanding
from lethe.observability.result import RunResult

__all__ = ["Beside"]

logger = logging.getLogger("lethe")


class Beside:
    """The models whose results are at ``paths``, by name; a file is read again once it was replaced."""

    def __init__(self, paths: Mapping[str, Path], clock: Callable[[], float] = time.time) -> None:
        self._paths, self._clock = dict(paths), clock
        self._read: dict[str, tuple[int, RunResult | str]] = {}
        """For each name, when its file was written, in ns, and its result or why there is none."""

    def __call__(self) -> list[ModelStanding]:
        """Return how each stands; one whose file is missing or cannot be read does not answer."""
        return [self._standing(name, path) for name, path in self._paths.items()]

    def _standing(self, name: str, path: Path) -> ModelStanding:
        try:
            written = path.stat().st_mtime_ns
        except OSError as error:
            return ModelStanding(name, str(path), up=False, detail=f"not measured yet: {error.strerror}")
        if name not in self._read or self._read[name][0] != written:
            self._read[name] = (written, self._result(path))
        found = self._read[name][1]
        if isinstance(found, str):
            return ModelStanding(name, str(path), up=False, detail=found)
        return ModelStanding.of(name, found, max(0.0, self._clock() - written / 1e9))

    def _result(self, path: Path) -> RunResult | str:
        try:
            return RunResult.read(path)
        except InvalidFile as error:
            logger.warning("%s", error)
            return str(error)
