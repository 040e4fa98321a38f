"""Locks between the workers of pytest-xdist: a test that measures time runs alone."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["one_at_a_time", "worker_slot"]

HERE: Final = Path(__file__).parents[1]
QUEUE: Final = HERE
ROOM: Final = HERE / "integration"
PREPARING: Final = HERE / "faults"
"""Folders that exist for all workers; locks on them leave no files and end with their process."""


@contextmanager
def worker_slot(alone: bool, queue: Path = QUEUE, room: Path = ROOM) -> Iterator[None]:
    """Wait until a test can run: in parallel with other workers, or ``alone``.

    Tests run in the order in which they began to wait, so that a waiting test is not overtaken.
    """
    with _locked(queue, fcntl.LOCK_EX):
        held = _lock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
    try:
        yield
    finally:
        os.close(held)


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait until no other worker prepares shared resources, such as downloads."""
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
