"""The folder of a service's checkpoints: locked, the last few kept, the newest good one found."""

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from service.checkpoint import (
    OWN,
    At,
    Checkpoint,
    force_folder,
    ignore,
    read_checkpoint,
    read_position,
    write_checkpoint,
)
from service.errors import InvalidFile, InvalidSetting
from service.stream.source import Position
from service.tensorfile import Hashes

__all__ = ["StateFolder", "checkpoint_files", "leftovers"]

logger = logging.getLogger("lethe")

DIGITS: Final = 12
COPY_BYTES: Final = 1 << 20
PATTERN: Final = f"checkpoint-{'[0-9]' * DIGITS}.safetensors"
ASIDE: Final = "before-*"
UNREADABLE: Final = "checkpoint-*.unreadable"
FRESH: Final = "fresh"
"""Names the run that a fresh start has begun here."""


def checkpoint_files(folder: Path) -> list[Path]:
    """Return the checkpoints in ``folder``, oldest first."""
    return sorted(folder.glob(PATTERN))


def leftovers(folder: Path) -> list[Path]:
    """Return the checkpoints beside those: set aside, or found unreadable."""
    aside = (path for apart in folder.glob(ASIDE) for path in checkpoint_files(apart))
    return sorted([*aside, *folder.glob(UNREADABLE), *folder.glob(f"{ASIDE}/{UNREADABLE}")])


def _readable(path: Path) -> Position | None:
    try:
        return read_position(path)
    except InvalidFile:
        return None


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("checkpoint-"))


class StateFolder:
    """One service's folder; the lock goes with the process, however it ends.

    Raises InvalidSetting when it cannot be used, or another service uses it.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self._keep = folder, keep
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, OWN)
        except OSError as error:
            raise InvalidSetting(f"checkpoint.folder {folder}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise InvalidSetting(
                f"checkpoint.folder {folder} is in use by another service; each needs a folder of its own"
            ) from None
        self.identity = self._identify()
        """The same for every service that ever uses this folder, and no other folder's."""
        self._positions: dict[str, Position] = {}
        self._hashes = Hashes()
        for partial in folder.glob("*.partial"):  # of a service that was killed while it wrote
            partial.unlink()

    def _identify(self) -> str:
        identity = os.read(self._lock, 64).decode(errors="replace")
        if not identity:
            identity = os.urandom(8).hex()
            os.write(self._lock, identity.encode())
        return identity

    def newest(
        self, fallback: Callable[[Path, InvalidFile], None], anew: str | None = None
    ) -> Checkpoint | None:
        """Return the newest checkpoint that can be read; None only where there is none at all.

        ``fallback`` is told of each newer one that cannot. Raises InvalidFile when none can: never
        a silent fresh start. Only the run ``anew``, which was told to begin anew, does so then, too,
        and says so.
        """
        files = checkpoint_files(self.folder)
        torn = []
        for path in reversed(files):
            try:
                checkpoint = read_checkpoint(path)
            except InvalidFile as error:
                fallback(path, error)
                torn.append(path)
                continue
            for bad in torn:  # kept to be looked at, but not in the place of one that can be read
                bad.rename(bad.with_suffix(".unreadable"))
            return checkpoint
        if not files:
            return None
        none = f"none of the {len(files)} checkpoints in {self.folder} can be read"
        if anew is None:
            raise InvalidFile(f"{none}; --fresh starts anew and keeps them aside")
        logger.warning("%s; as --fresh was given, the run begins anew once more", none)
        self.go_on()
        self.begin_anew(anew)
        return None

    def begin_anew(self, run: str) -> None:
        """Put what is here out of the way, once for each ``run``; nothing is deleted.

        A supervisor that starts the service again with the same settings, and so with the same wish
        to begin anew, gets the run that it has begun before.
        """
        marker = self.folder / FRESH
        if marker.exists() and marker.read_text() == run:
            logger.warning("this run has begun anew before and goes on; without %s it would again", marker)
            return
        self.set_aside()
        partial = marker.with_name(f"{FRESH}.partial")
        with partial.open("w") as file:
            file.write(run)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(marker)
        force_folder(self.folder)

    def go_on(self) -> None:
        """Keep what is here; whoever wants to begin anew next time may."""
        (self.folder / FRESH).unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Put what is here out of the way; nothing is deleted."""
        files = [*checkpoint_files(self.folder), *self.folder.glob("ledger*.jsonl")]
        if not files:
            return
        aside = self.folder / f"before-{int(time.time())}-{os.urandom(4).hex()}"
        aside.mkdir()
        for path in files:
            path.rename(aside / path.name)
        logger.warning("fresh start: %d files set aside in %s", len(files), aside)

    def clear(self) -> None:
        """Delete every checkpoint and ledger here, also what was set aside; other files stay."""
        for folder in (*self.folder.glob(ASIDE), self.folder):
            for path in (
                *checkpoint_files(folder),
                *folder.glob(UNREADABLE),
                *folder.glob("ledger*.jsonl"),
            ):
                path.unlink()
            if folder != self.folder and not any(folder.iterdir()):
                folder.rmdir()

    def write(self, checkpoint: Checkpoint, at: At = ignore) -> int:
        """Write a checkpoint, drop those beyond the last few, and return its size. Raises OSError."""
        files = checkpoint_files(self.folder)
        # counted, not named for its position: that goes back when a topic was created anew
        number = 1 + _number(files[-1]) if files else 1
        path = self.folder / f"checkpoint-{number:0{DIGITS}d}.safetensors"
        size = write_checkpoint(checkpoint, path, at, self._hashes)
        for path in checkpoint_files(self.folder)[: -self._keep]:
            path.unlink()
        return size

    def fallback(self, newest: Position) -> Position:
        """Return the first offsets that any checkpoint here goes on from, of the topic of ``newest``.

        A checkpoint that cannot be read is none: nothing can fall back to it.
        """
        files = checkpoint_files(self.folder)
        known = {path.name: self._positions.get(path.name) or _readable(path) for path in files}
        self._positions = {name: position for name, position in known.items() if position is not None}
        offsets = dict(newest.offsets)
        for position in self._positions.values():
            if position.topic_id == newest.topic_id:
                offsets = {p: min(o, position.offsets.get(p, 0)) for p, o in offsets.items()}
        return Position(offsets, newest.turn, newest.topic_id)

    def level(self) -> None:
        """Put copies of the newest checkpoint in the place of the older ones.

        Afterwards nothing before it can be needed again, and it is there as often as ever. Raises
        InvalidFile, and leaves the older ones, when it cannot be read; OSError.
        """
        *older, newest = checkpoint_files(self.folder)
        read_checkpoint(newest)  # what a disk has damaged must not take the place of a good one
        for path in older:
            partial = path.with_name(f"{path.name}.partial")
            try:
                with newest.open("rb") as source, partial.open("wb") as copy:
                    os.fchmod(copy.fileno(), OWN)
                    shutil.copyfileobj(source, copy, COPY_BYTES)
                    copy.flush()
                    os.fsync(copy.fileno())
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        force_folder(self.folder)
        self._positions.clear()

    def close(self) -> None:
        """Let another service have the folder."""
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
