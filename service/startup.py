"""How long a start takes: from the begin of the process to its first learned batch."""

import os
import time
from pathlib import Path
from typing import Final

from service.events import BatchLearned, Emit, Event, LearningBegan

__all__ = ["Startup", "age"]

STAT: Final = Path("/proc/self/stat")
STARTED: Final = 19
"""The field of `STAT`, counted behind the command's name, that says when the process began."""
IMPORTED: Final = time.monotonic()


def age() -> float:
    """Return the seconds since this process began; where the system does not say, since this import."""
    if not STAT.exists():
        return time.monotonic() - IMPORTED
    ticks = int(STAT.read_text().rpartition(")")[2].split()[STARTED])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


class Startup:
    """Tells, at the first learned batch, how long it took to be there.

    ``imported`` is the process's `age` when its libraries had been imported.
    """

    def __init__(self, emit: Emit, imported: float) -> None:
        self._emit, self._imported, self._told = emit, imported, False

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, BatchLearned) and not self._told:
            self._told = True
            self._emit(LearningBegan(age(), self._imported))
