"""Disks that are full or fail, and checkpoints that were damaged on them."""

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from service.state_folder import checkpoint_files
from tests.waiting import until

__all__ = ["FULL", "TORN", "BadDisk", "FailAt", "Filled", "flip", "truncate"]

FULL: Final = Path("/dev/full")
"""Linux's own: whatever is written to it, there is no space left on the device."""
TORN: Final = Path("/proc/self/mem")
"""Nothing is mapped where it begins: what is written there is an input/output error."""


@dataclass
class BadDisk:
    """From the second checkpoint to the sixth, the file to be written is a device that takes nothing.

    The sixth is only begun when ``good`` appears: somebody has seen the failures, and the disk is good.
    """

    state: Path
    device: Path
    good: Path
    taken: int = 0

    def __call__(self, step: str) -> None:
        self.taken += step == "taken"
        if step != "taken" or self.taken < 2:
            return
        if self.taken == 6:
            until(self.good.exists, "the disk is good again")
        if not self.good.exists():
            last = checkpoint_files(self.state)[-1]
            number = 1 + int(last.stem.rpartition("-")[2])
            (self.state / f"checkpoint-{number:012d}.safetensors.partial").symlink_to(self.device)


@dataclass
class Filled:
    """A real file system is filled up after the second checkpoint, and emptied when ``good`` appears."""

    filler: Path
    good: Path
    taken: int = 0

    def __call__(self, step: str) -> None:
        self.taken += step == "taken"
        if step == "committed" and self.taken == 2:
            fill(self.filler)
        if step == "taken" and self.taken == 6:
            until(self.good.exists, "the disk is to be good again")
            self.filler.unlink()


def fill(path: Path) -> None:
    """Take all the space that is left on a disk."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


@dataclass
class FailAt:
    """An I/O error at each of these steps in turn: the first one of the second checkpoint, and so on."""

    steps: list[str]
    taken: int = 0
    failed: list[str] = field(default_factory=list)

    def __call__(self, step: str) -> None:
        self.taken += step == "taken"
        if self.steps and self.taken >= 2 + len(self.failed) and step == self.steps[0]:
            self.failed.append(self.steps.pop(0))
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def flip(path: Path) -> None:
    """Damage one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def truncate(path: Path) -> None:
    """Lose the second half."""
    os.truncate(path, path.stat().st_size // 2)
