"""Measures the start-up time, from the start of the process to its first learned batch."""

import os
import time
from pathlib import Path
from typing import Final

from lethe.events import BatchLearned, Emit, Event, LearningStarted

__all__ = ["StartupTimer", "age"]

STAT: Final = Path("/proc/self/stat")
STARTED: Final = 19
"""Index of the start time among the fields of `STAT` that follow the command's name."""
IMPORTED: Final = time.monotonic()


def age() -> float:
    """Return the seconds since this process started; without /proc, since this module was imported."""
    if not STAT.exists():
        return time.monotonic() - IMPORTED
    ticks = int(STAT.read_text().rpartition(")")[2].split()[STARTED])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


class StartupTimer:
    """A subscriber that emits `LearningStarted` after the first learned batch.

    ``imported`` is the `age` of the process when its libraries had been imported.
    """

    def __init__(self, emit: Emit, imported: float) -> None:
        self._emit, self._imported, self._emitted = emit, imported, False

    def __call__(self, event: Event) -> None:
        """Handle one event."""
        if isinstance(event, BatchLearned) and not self._emitted:
            self._emitted = True
            self._emit(LearningStarted(age(), self._imported))
