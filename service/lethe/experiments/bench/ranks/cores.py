"""The cores that a comparison's side may use, and the processor time that its processes have used."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["confined", "cpu_seconds"]

TIMES: Final = slice(11, 15)
"""Fields of /proc/PID/stat after the command's name: user and system time, its own and of ended children."""


@contextmanager
def confined(count: int) -> Iterator[bool]:
    """Confine this process, with all that it starts, to ``count`` cores; yield whether that was possible.

    It is not where there are fewer cores, and only Linux can.
    """
    if sys.platform != "linux" or len(cores := sorted(os.sched_getaffinity(0))) < count:
        yield False
        return
    _move_all_threads(cores[:count])
    try:
        yield True
    finally:
        _move_all_threads(cores)


def _move_all_threads(cores: list[int]) -> None:
    for thread in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(thread.name), cores)
        except ProcessLookupError:  # it has ended meanwhile
            continue


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and all its descendants, also of those that have ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        children = [
            int(child)
            for listed in Path(f"/proc/{pid}/task").glob("*/children")
            for child in listed.read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile, and its parent counts it
        return 0.0
    ticks = sum(map(int, stat.rpartition(")")[2].split()[TIMES]))
    return ticks / os.sysconf("SC_CLK_TCK") + sum(map(cpu_seconds, children))
