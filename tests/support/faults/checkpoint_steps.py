"""Faults at a step of the checkpoint protocol."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.faults.services import EVERY
from tests.support.waiting import until

__all__ = ["HELD_AT", "Held", "KillAt"]

HELD_SECONDS: Final = 240.0
HELD_AT: Final = 2 * EVERY
"""Samples learned before the third checkpoint: the first one is taken before any."""


@dataclass
class Held:
    """Holds a service at its third checkpoint until a file appears."""

    go_on: Path
    taken: int = 0

    def __call__(self, step: str) -> None:
        self.taken += step == "taken"
        if self.taken == 3:
            until(self.go_on.exists, "the test lets the service continue", HELD_SECONDS)


@dataclass
class KillAt:
    """Kills its process when a step is reached for the n-th time: in mid-stream, with older checkpoints."""

    step: str
    left: int = 3

    def __call__(self, step: str) -> None:
        self.left -= step == self.step
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
