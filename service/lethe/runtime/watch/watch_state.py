"""What survives a restart of ``lethe watch``: one JSON file in its state folder."""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from pydantic import Field, NonNegativeInt, ValidationError

from lethe.checkpointing.folder_lock import FolderLock
from lethe.errors import InvalidFile, InvalidSetting
from lethe.files.bounded_json import read_json
from lethe.files.private import open_private
from lethe.models import Document

__all__ = ["WatchFolder", "WatchState"]

FILE: Final = "watch.json"
OURS: Final = ("watch.json*", "lock")
"""Patterns of all files in the folder."""


class WatchState(Document):
    """The watched model's history, and what its measurements depend on."""

    format: Literal["lethe-watch/1"] = "lethe-watch/1"
    probes: dict[str, str]
    """SHA-256 of each probe, by name, in order."""
    images: int = Field(ge=1)
    """Images of each probe."""
    seed: int
    """Chooses the images."""
    began: float
    """When the first evaluation was made, in seconds since 1970."""
    version: str | None = None
    """The version that answered last; None if the model reports none."""
    tests: NonNegativeInt = 0
    """Sequential tests so far, which share the probability of a false alarm."""
    baselines: dict[str, str] = Field(default_factory=dict)
    """`Panel.baseline` of each probe."""
    lines_read: NonNegativeInt = 0
    """Lines of the file of visits that were read."""
    history: dict[str, Any] = Field(default_factory=dict)
    """The `History`."""

    def check(self, other: Self, folder: Path) -> None:
        """Raise InvalidSetting if ``other`` measures something else, which could not be compared."""
        if list(self.probes.items()) != list(other.probes.items()):
            raise InvalidSetting(
                f"--state {folder}: it was measured on the probes {', '.join(self.probes)}, and these are "
                f"{', '.join(other.probes)}, or have other images; choose another folder"
            )
        for name in ("images", "seed"):
            was, now = getattr(self, name), getattr(other, name)
            if was != now:
                raise InvalidSetting(f"--state {folder}: it was measured with --{name} {was}, not {now}")


class WatchFolder:
    """The state folder of one service that watches, locked until `close`; None keeps nothing.

    Raises InvalidSetting if the folder cannot be used.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._lock = None if folder is None else FolderLock(folder, OURS)

    def load(self, now: WatchState) -> WatchState:
        """Return the stored state, or ``now`` if there is none.

        Raises InvalidFile for a file that cannot be read, InvalidSetting for one of other measurements.
        """
        if self.folder is None or not (path := self.folder / FILE).exists():
            return now
        try:
            stored = WatchState.model_validate(read_json(path.read_bytes()))
        except (OSError, ValueError, ValidationError) as error:
            raise InvalidFile(f"{path} cannot be read: {error}") from error
        stored.check(now, self.folder)
        return stored

    def save(self, state: WatchState) -> None:
        """Write the state atomically. Raises OSError."""
        if self.folder is None:
            return
        partial = self.folder / f"{FILE}.partial"
        with open_private(partial, os.O_TRUNC) as file:
            file.write(json.dumps(state.model_dump(mode="json")).encode())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.folder / FILE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()
