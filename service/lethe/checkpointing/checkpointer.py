"""Schedules checkpoints and writes them in the background."""

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from lethe.checkpointing.checkpoint import Checkpoint, OnStep, ignore_step
from lethe.checkpointing.state_folder import StateFolder
from lethe.errors import InvalidFile
from lethe.events import CheckpointFailed, CheckpointWritten, Emit
from lethe.settings import CheckpointSettings

__all__ = ["Checkpointer"]

RETRY_SECONDS: Final = 5.0
"""Delay of the next attempt after a failure."""
NICENESS: Final = 10
"""Niceness of the writing thread, so that learning has priority if no core is free."""


class Checkpointer:
    """Writes checkpoints in its own thread, one at a time.

    ``publish`` is called with each checkpoint once it is on the disk, and not before, so that what it
    commits to the broker and the ledger still holds after a crash. ``samples`` is the number learned before
    the start.
    """

    def __init__(
        self,
        folder: StateFolder,
        settings: CheckpointSettings,
        emit: Emit,
        publish: Callable[[Checkpoint], None],
        at: OnStep = ignore_step,
        samples: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._settings, self._clock = folder, settings, clock
        self._emit, self._publish, self._at = emit, publish, at
        self._writer = ThreadPoolExecutor(1, "lethe-checkpoint", initializer=_give_way)
        self._writing: tuple[Future[int], Checkpoint, float] | None = None
        self._taken_at, self._taken_samples = clock(), samples
        self._wait = settings.every_seconds
        self.failure = ""
        """Reason why the latest checkpoint is not on the disk; empty if it is."""
        self.samples_on_disk = samples
        """Samples learned at the newest checkpoint on the disk."""

    def due(self, samples: int) -> bool:
        """Return whether a checkpoint is due after ``samples`` learned samples."""
        every = self._settings.every_samples
        if every is not None and samples // every != self._taken_samples // every:
            return True
        return self._clock() - self._taken_at >= self._wait

    def take(self, checkpoint: Checkpoint, *, replace_newest: bool = False) -> None:
        """Start writing ``checkpoint``, after the previous one is written.

        With ``replace_newest`` it replaces the newest one on the disk if that has as many samples.
        """
        self.wait()
        self._taken_at, self._taken_samples = self._clock(), checkpoint.samples
        self._at("taken")
        future = self._writer.submit(self._folder.write, checkpoint, self._at, replace_newest=replace_newest)
        self._writing = (future, checkpoint, self._taken_at)

    def poll(self) -> None:
        """Finish a checkpoint that has been written; return at once while it is being written."""
        if self._writing is not None and self._writing[0].done():
            self.wait()

    def wait(self) -> None:
        """Wait for the checkpoint being written, if any, publish it, and emit its event."""
        if self._writing is None:
            return
        future, checkpoint, started = self._writing
        self._writing = None
        try:
            size = future.result()
            self._publish(checkpoint)  # it writes to the same disk, and can fail likewise
        except OSError as error:
            self._wait = min(RETRY_SECONDS, self._settings.every_seconds)
            self.failure = f"{self._folder.folder}: {error.strerror or error}"
            self._emit(CheckpointFailed(self.failure))
        else:
            self.failure = ""
            self._wait = self._settings.every_seconds
            self.samples_on_disk = checkpoint.samples
            self._emit(CheckpointWritten(checkpoint.samples, size, self._clock() - started))
            self._at("committed")

    def replace_older(self) -> bool:
        """Replace older checkpoints by copies of the newest one; return whether that succeeded."""
        self.wait()
        try:
            self._folder.replace_older()
        except OSError as error:
            self._emit(CheckpointFailed(f"{self._folder.folder}: {error.strerror or error}"))
            return False
        except InvalidFile as error:
            self._emit(CheckpointFailed(str(error)))
            return False
        return True

    def close(self) -> None:
        """Wait for the checkpoint being written, and stop the thread."""
        self.wait()
        self._writer.shutdown()


def _give_way() -> None:
    """Lower the priority of this thread."""
    if sys.platform == "linux":  # elsewhere niceness is per process
        here = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, here, os.getpriority(os.PRIO_PROCESS, here) + NICENESS)
