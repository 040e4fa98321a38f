"""Full and failing disks, and damaged checkpoint files."""

import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.support.waiting import until

__all__ = ["FULL", "TORN", "BadDisk", "FailAt", "Filled", "flip", "truncate"]

FULL: Final = Path("/dev/full")
"""Linux's own: every write to it fails with 'no space left on device'."""
TORN: Final = Path("/proc/self/mem")
"""Its start is not mapped: every write there is an input/output error."""


@dataclass
class BadDisk:
    """From the second checkpoint to the sixth, writes go to a device that rejects them.

    The sixth is only begun when ``good`` appears: the test has seen the failures.
    The system's calls are put in between in the service's own process: a link in its folder is refused.
    """

    device: Path
    good: Path
    taken: int = 0

    def __call__(self, step: str) -> None:
        self.taken += step == "taken"
        if step != "taken" or self.taken < 2:
            return
        if self.taken == 2:
            self._put_in_between()
        if self.taken == 6:
            until(self.good.exists, "the disk is good again")

    def _put_in_between(self) -> None:
        opened, changed = os.open, os.fchmod

        def open_(path: Any, flags: int, *more: Any, **named: Any) -> int:
            if str(path).endswith(".safetensors.partial") and not self.good.exists():
                return opened(self.device, os.O_WRONLY)
            return opened(path, flags, *more, **named)

        def fchmod(fd: int, mode: int) -> None:
            if stat.S_ISREG(os.fstat(fd).st_mode):  # the device is everybody's, and stays so
                changed(fd, mode)

        os.open, os.fchmod = open_, fchmod


@dataclass
class Filled:
    """Fills a real file system after the second checkpoint, and empties it when ``good`` appears."""

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
    """Use up all free space of a disk."""
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
    """Flip one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def truncate(path: Path) -> None:
    """Delete the second half of a file."""
    os.truncate(path, path.stat().st_size // 2)
