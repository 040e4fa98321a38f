"""The state folder of a service: writes and prunes its checkpoints, and finds the newest readable one."""

import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from lethe.checkpointing.checkpoint import (
    Checkpoint,
    OnStep,
    fsync_folder,
    ignore_step,
    read_checkpoint,
    read_position,
    read_samples,
    write_checkpoint,
)
from lethe.checkpointing.folder_lock import FolderLock
from lethe.checkpointing.safetensors_writer import Hashes
from lethe.errors import InvalidFile, InvalidSetting
from lethe.files.private import FOLDER_MODE, open_private
from lethe.stream.source import Position

__all__ = ["StateFolder", "checkpoint_files", "leftover_checkpoints"]

logger = logging.getLogger("lethe")

DIGITS: Final = 12
COPY_BYTES: Final = 1 << 20
KEY_BYTES: Final = 32
PATTERN: Final = f"checkpoint-{'[0-9]' * DIGITS}.safetensors"
ASIDE: Final = "before-*"
UNREADABLE: Final = "checkpoint-*.unreadable"
LEDGERS: Final = "ledger*.jsonl"
LETTER_KEY: Final = "dead-letters.key"
FRESH: Final = "fresh"
"""File that names the run that was started fresh in this folder."""
OURS: Final = ("checkpoint-*", "*.partial", ASIDE, LEDGERS, LETTER_KEY, FRESH, "lock")
"""Patterns of all files that a service writes into its folder."""


def checkpoint_files(folder: Path) -> list[Path]:
    """Return the checkpoints in ``folder``, oldest first."""
    return sorted(folder.glob(PATTERN))


def leftover_checkpoints(folder: Path) -> list[Path]:
    """Return the other checkpoints in ``folder``: those set aside and those found unreadable."""
    aside = (path for apart in folder.glob(ASIDE) for path in checkpoint_files(apart))
    return sorted([*aside, *folder.glob(UNREADABLE), *folder.glob(f"{ASIDE}/{UNREADABLE}")])


def _readable(path: Path) -> Position | None:
    try:
        return read_position(path)
    except InvalidFile:
        return None


def _samples(path: Path) -> int | None:
    try:
        return read_samples(path)
    except InvalidFile:
        return None


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("checkpoint-"))


class StateFolder:
    """The folder of one service, locked until the process ends, and the last ``keep`` checkpoints in it.

    Only this user can access it: the permissions of an existing folder are restricted, unless it contains
    other files than a service's. Raises InvalidSetting when it cannot be used, is in use by another service,
    or contains a symbolic link; the folder itself may be one.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self._keep = folder, keep
        self._lock = FolderLock(folder, OURS)
        self.identity = self._lock.identity
        """Random identifier of the folder, the same for every service that uses it."""
        self._positions: dict[str, Position] = {}
        self._hashes = Hashes()
        for partial in folder.glob("*.partial"):  # left by a service that was killed while writing
            partial.unlink()

    def dead_letter_key(self) -> bytes:
        """Return the key with which dead letters hash record values; it survives a fresh start.

        Raises InvalidSetting for a file that does not contain a key.
        """
        path = self.folder / LETTER_KEY
        if not path.exists():
            partial = path.with_name(f"{LETTER_KEY}.partial")
            with open_private(partial, os.O_TRUNC) as file:
                file.write(os.urandom(KEY_BYTES).hex().encode())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            fsync_folder(self.folder)
        try:
            key = bytes.fromhex(path.read_text())
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise InvalidSetting(
                f"checkpoint.folder: {path} is not a key of {KEY_BYTES} bytes in hex; delete it for a new one"
            )
        return key

    def load_newest(
        self,
        fallback: Callable[[Path, InvalidFile], None],
        anew: str | None = None,
        flaw: Callable[[Checkpoint], str] = lambda _: "",
    ) -> Checkpoint | None:
        """Return the newest usable checkpoint; None only if the folder contains none.

        ``flaw`` returns why a readable checkpoint cannot be used, or an empty string. ``fallback`` is called
        with each newer one that cannot be read or used. Raises InvalidFile when none can be used, so that a
        run never starts over silently; a run with ``--fresh``, whose id is ``anew``, starts over and logs
        that.
        """
        files = checkpoint_files(self.folder)
        torn, reasons = [], []
        for path in reversed(files):
            try:
                checkpoint = read_checkpoint(path)
                if why := flaw(checkpoint):
                    raise InvalidFile(f"{path} cannot be resumed from: {why}")
            except InvalidFile as error:
                fallback(path, error)
                torn.append(path)
                reasons.append(str(error))
                continue
            for bad in torn:  # kept for inspection, but no longer counted as a checkpoint
                bad.rename(bad.with_suffix(".unreadable"))
            return checkpoint
        if not files:
            return None
        none = f"none of the {len(files)} checkpoints in {self.folder} can be read: {'; '.join(reasons)}"
        if anew is None:
            raise InvalidFile(f"{none}; --fresh starts over and sets them aside")
        logger.warning("%s; --fresh was given, so the run starts over again", none)
        self.clear_fresh_marker()
        self.start_fresh(anew)
        return None

    def start_fresh(self, run: str) -> None:
        """Set the existing files aside, once for each ``run``; nothing is deleted.

        A supervisor that restarts the service with the same settings, --fresh among them, resumes the run
        that was started before.
        """
        marker = self.folder / FRESH
        if marker.exists() and marker.read_text() == run:
            logger.warning(
                "--fresh: this run was started fresh before and is resumed; delete %s to start over", marker
            )
            return
        self.set_aside()
        partial = marker.with_name(f"{FRESH}.partial")
        with open_private(partial, os.O_TRUNC) as file:
            file.write(run.encode())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(marker)
        fsync_folder(self.folder)

    def clear_fresh_marker(self) -> None:
        """Remove the marker, so that the next start with --fresh starts over."""
        (self.folder / FRESH).unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Set all checkpoints and ledgers aside; nothing is deleted."""
        files = [*checkpoint_files(self.folder), *self.folder.glob(LEDGERS)]
        if files:
            logger.warning("fresh start: %d files set aside in %s", len(files), self.move_aside(files))

    def move_aside(self, files: Sequence[Path]) -> Path:
        """Move ``files`` of this folder into a new folder in it, and return that."""
        aside = self.folder / f"before-{int(time.time())}-{os.urandom(4).hex()}"
        aside.mkdir(FOLDER_MODE)
        for path in files:
            path.rename(aside / path.name)
        fsync_folder(self.folder)
        return aside

    def clear(self) -> None:
        """Delete all checkpoints and ledgers, including those set aside; other files stay."""
        for folder in (*self.folder.glob(ASIDE), self.folder):
            for path in (
                *checkpoint_files(folder),
                *folder.glob(UNREADABLE),
                *folder.glob(LEDGERS),
            ):
                path.unlink()
            if folder != self.folder and not any(folder.iterdir()):
                folder.rmdir()

    def write(self, checkpoint: Checkpoint, at: OnStep = ignore_step, *, replace_newest: bool = False) -> int:
        """Write a checkpoint, delete all but the last ``keep``, and return its size in bytes. Raises OSError.

        With ``replace_newest`` the previous newest one is deleted instead if it has as many samples.
        """
        files = checkpoint_files(self.folder)
        # a counter, not the position, which goes back when a topic is recreated
        number = 1 + _number(files[-1]) if files else 1
        path = self.folder / f"checkpoint-{number:0{DIGITS}d}.safetensors"
        size = write_checkpoint(checkpoint, path, at, self._hashes)
        if replace_newest and files and _samples(files[-1]) == checkpoint.samples:
            files[-1].unlink()
        for path in checkpoint_files(self.folder)[: -self._keep]:
            path.unlink()
        return size

    def earliest_position(self, newest: Position) -> Position:
        """Return the lowest offsets that any checkpoint here resumes from, in the topic of ``newest``.

        Unreadable checkpoints are ignored, since no run can resume from them.
        """
        files = checkpoint_files(self.folder)
        known = {path.name: self._positions.get(path.name) or _readable(path) for path in files}
        self._positions = {name: position for name, position in known.items() if position is not None}
        offsets = dict(newest.offsets)
        for position in self._positions.values():
            if position.topic_id == newest.topic_id:
                offsets = {p: min(o, position.offsets.get(p, 0)) for p, o in offsets.items()}
        return Position(offsets, newest.turn, newest.topic_id)

    def replace_older(self) -> None:
        """Replace the older checkpoints by copies of the newest one.

        Afterwards no record before it is needed again. Raises InvalidFile, and leaves the older ones, when
        the newest cannot be read; OSError.
        """
        *older, newest = checkpoint_files(self.folder)
        read_checkpoint(newest)  # a damaged file must not replace a good one
        for path in older:
            partial = path.with_name(f"{path.name}.partial")
            try:
                with newest.open("rb") as source, open_private(partial, os.O_TRUNC) as copy:
                    shutil.copyfileobj(source, copy, COPY_BYTES)
                    copy.flush()
                    os.fsync(copy.fileno())
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        fsync_folder(self.folder)
        self._positions.clear()

    def close(self) -> None:
        """Release the lock."""
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
