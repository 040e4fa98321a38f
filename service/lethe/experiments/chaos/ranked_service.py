"""Several ranks and the process that starts them: a kill hits a rank, that process, or all of them."""

import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Final

from lethe.experiments.chaos.kill_loop import NoProgress
from lethe.experiments.chaos.service import Service

__all__ = ["RankedService", "Target", "rank_processes"]

LOOK_SECONDS: Final = 0.01
END_SECONDS: Final = 120.0
"""How long ranks may go on without the process that started them."""


class Target(StrEnum):
    """What a kill hits."""

    RANK = "rank"
    """One rank, of which all others and the launcher must take notice."""
    LAUNCHER = "launcher"
    """The process that started the ranks, which must not outlive it."""
    ALL = "all"
    """The launcher and all ranks at once, as when a machine fails."""


class RankedService:
    """A run of several ranks over all its starts; a `lethe.experiments.chaos.kill_loop.KillableService`.

    What a kill hits is chosen at random by ``seed``; each target comes once before any comes again. The
    launcher starts ranks by itself; `start` starts a launcher when there is none.
    """

    def __init__(self, start: Callable[[], Service], seed: int) -> None:
        self._start, self._random = start, random.Random(seed)  # noqa: S311 - reproducible, not secret
        self._service: Service | None = None
        self._next: list[Target] = []
        self.killed: Counter[Target] = Counter()
        """How often each target was hit."""

    def start(self) -> "RankedService":
        """Start a launcher, unless one runs. Raises LetheError if the last one ended with an error."""
        if self._service is None or self._service.ended():
            self._service = self._start()
        return self

    def kill(self) -> None:
        """Kill the next target with SIGKILL; without a launcher, wait until no rank is left."""
        if not self._next:
            self._next = self._random.sample(list(Target), len(Target))
        target = self._next.pop()
        self.killed[target] += 1
        if target is Target.RANK:
            self._kill_rank()
            return
        pid = self._running.pid
        os.kill(pid, signal.SIGSTOP)  # it starts no rank that would be missed
        ranks = rank_processes(pid).values()
        self._running.kill()
        if target is Target.ALL:
            _kill(ranks)
        _wait_for_end(ranks)
        self._service = None

    def ended(self) -> bool:
        """Return whether the run has ended; raises ChildFailed if it ended with an error."""
        return self._running.ended()

    def learned(self) -> int:
        """Return the number of samples that rank 0 reports as learned; 0 while it does not respond."""
        return self._running.learned()

    @property
    def _running(self) -> Service:
        if self._service is None:
            raise ValueError("it is not started")
        return self._service

    def _kill_rank(self) -> None:
        """Kill one rank; wait for it where the launcher is about to start it."""
        while not (ranks := rank_processes(self._running.pid)):
            if self._running.ended():
                return
            time.sleep(LOOK_SECONDS)
        _kill([self._random.choice(sorted(ranks.values()))])


def rank_processes(launcher: int) -> Mapping[int, int]:
    """Return the process id of each running rank that a launcher or torchrun has started."""
    found = {}
    for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if (rank := re.search(rb"\0RANK=(\d+)\0", b"\0" + environment)) is not None:
            found[int(rank[1])] = int(pid)
    return found


def _kill(processes: Collection[int]) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _wait_for_end(processes: Collection[int]) -> None:
    """Wait until all have ended. Raises NoProgress."""
    deadline = time.monotonic() + END_SECONDS
    while any(Path(f"/proc/{pid}/fd/0").is_symlink() for pid in processes):  # a zombie has none
        if time.monotonic() > deadline:
            raise NoProgress(f"ranks have outlived the process that started them by {END_SECONDS:.0f} s")
        time.sleep(LOOK_SECONDS)
