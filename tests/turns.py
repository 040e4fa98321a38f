"""Turns: workers of pytest-xdist share the machine, and a test that measures time wants it alone."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["one_at_a_time", "turn"]

HERE: Final = Path(__file__).parent
QUEUE: Final = HERE
ROOM: Final = HERE / "integration"
PREPARING: Final = HERE / "faults"
"""Folders that are there for all workers; locks on them leave no file behind, and end with their process."""


@contextmanager
def turn(alone: bool, queue: Path = QUEUE, room: Path = ROOM) -> Iterator[None]:
    """Wait until a test may run: beside those of other workers, or with none of them beside it.

    Whoever waits is first: nobody passes one that waits for the others to end.
    """
    with _locked(queue, fcntl.LOCK_EX):
        held = _lock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
    try:
        yield
    finally:
        os.close(held)


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait until no other worker prepares what all of them need: fetched files, for one."""
    with _locked(PREPARING, fcntl.LOCK_EX):
        yield


@contextmanager
def _locked(folder: Path, kind: int) -> Iterator[None]:
    held = _lock(folder, kind)
    try:
        yield
    finally:
        os.close(held)


def _lock(folder: Path, kind: int) -> int:
    """Lock ``folder`` until what is returned is closed."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(held, kind)
    return held
