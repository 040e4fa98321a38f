"""When checkpoints are taken, and that writing them does not keep the learner waiting."""

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from service.checkpoint import At, Checkpoint, ignore
from service.errors import InvalidFile
from service.events import CheckpointFailed, CheckpointWritten, Emit
from service.settings import CheckpointSettings
from service.state_folder import StateFolder

__all__ = ["Checkpointer"]

RETRY_SECONDS: Final = 5.0
"""After a failure, the next attempt is due this much later."""
NICENESS: Final = 10
"""Of the thread that writes: where there is no core to spare, learning goes first."""


class Checkpointer:
    """Writes checkpoints in a thread of its own, one at a time.

    ``publish`` is given each once it is on the disk, and not before: what it tells the broker and
    the ledger is true after a crash, too. ``samples`` had been learned before the start.
    """

    def __init__(
        self,
        folder: StateFolder,
        settings: CheckpointSettings,
        emit: Emit,
        publish: Callable[[Checkpoint], None],
        at: At = ignore,
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
        """Why the latest checkpoint is not on the disk; empty if it is."""

    def due(self, samples: int) -> bool:
        """Tell whether a checkpoint is due after ``samples`` learned samples."""
        every = self._settings.every_samples
        if every is not None and samples // every != self._taken_samples // every:
            return True
        return self._clock() - self._taken_at >= self._wait

    def take(self, checkpoint: Checkpoint) -> None:
        """Begin to write ``checkpoint``, once the one before is written."""
        self.settle()
        self._taken_at, self._taken_samples = self._clock(), checkpoint.samples
        self._at("taken")
        future = self._writer.submit(self._folder.write, checkpoint, self._at)
        self._writing = (future, checkpoint, self._taken_at)

    def poll(self) -> None:
        """Take note of a checkpoint whose writing has ended, without waiting for it."""
        if self._writing is not None and self._writing[0].done():
            self.settle()

    def settle(self) -> None:
        """Wait for the checkpoint being written, if any, and report what came of it."""
        if self._writing is None:
            return
        future, checkpoint, started = self._writing
        self._writing = None
        try:
            size = future.result()
            self._publish(checkpoint)  # it may write to the same disk
        except OSError as error:
            self._wait = min(RETRY_SECONDS, self._settings.every_seconds)
            self.failure = f"{self._folder.folder}: {error.strerror or error}"
            self._emit(CheckpointFailed(self.failure))
        else:
            self.failure = ""
            self._wait = self._settings.every_seconds
            self._emit(CheckpointWritten(checkpoint.samples, size, self._clock() - started))
            self._at("committed")

    def level(self) -> bool:
        """Put the newest checkpoint in the place of older ones; tell whether none of them is left."""
        self.settle()
        try:
            self._folder.level()
        except OSError as error:
            self._emit(CheckpointFailed(f"{self._folder.folder}: {error.strerror or error}"))
            return False
        except InvalidFile as error:
            self._emit(CheckpointFailed(str(error)))
            return False
        return True

    def close(self) -> None:
        """Wait for what is being written."""
        self.settle()
        self._writer.shutdown()


def _give_way() -> None:
    """Let the other threads of this process go first."""
    if sys.platform == "linux":  # elsewhere threads have no niceness of their own
        here = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, here, os.getpriority(os.PRIO_PROCESS, here) + NICENESS)
