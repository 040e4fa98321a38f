"""Starts the ranks of `lethe run --ranks`, and starts all of them again when one ends unexpectedly.

torchrun does the same, except that it ends with an error when it is asked to stop, and that it also starts
ranks again which ended because of an error that another start does not mend.
"""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from threading import Thread
from types import FrameType
from typing import Final

from lethe.errors import LetheError, RankLost
from lethe.runtime.ranks.environment import variables

__all__ = ["launch", "stop_with_launcher"]

logger = logging.getLogger("lethe")

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
POLL_SECONDS: Final = 0.1
GRACE_SECONDS: Final = 10.0
"""How long the other ranks have to notice that one has ended."""
PAUSE_SECONDS: Final = 1.0
"""Between the end of all ranks and their next start."""


def launch(command: Sequence[str], ranks: int) -> int:
    """Run ``command`` in so many processes; return the exit status.

    SIGTERM and SIGINT are passed on to them. If an error of Lethe's ends one, all end, and its status is
    returned. If one crashes or is killed, all are started again, unless they were asked to stop.
    """
    team = _Team(command, ranks)
    before = [signal.signal(number, team.stop) for number in SIGNALS]
    try:
        while True:
            statuses = team.run()
            if not any(statuses):
                return 0
            if team.stopping or LetheError.status in statuses:
                return _reason(statuses)
            logger.warning("ranks ended with status %s; all start again", ", ".join(map(str, statuses)))
            time.sleep(PAUSE_SECONDS)
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


def stop_with_launcher() -> None:
    """Ask this rank to stop once the process that started it has ended, and its standard input with it."""

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)  # sys.stdin itself has a lock that the interpreter needs at its end
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=wait, name="lethe-launcher", daemon=True).start()


class _Team:
    """The processes of all ranks."""

    def __init__(self, command: Sequence[str], size: int) -> None:
        self._command, self._size = command, size
        self._processes: list[subprocess.Popen[bytes]] = []
        self.stopping = False
        """Whether a signal has asked to stop."""

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Pass a signal on to every rank."""
        del frame
        self.stopping = True
        for process in self._processes:
            process.send_signal(number)

    def run(self) -> list[int]:
        """Start all ranks, and return their exit statuses when all have ended."""
        with tempfile.TemporaryDirectory(prefix="lethe-ranks-") as folder, ExitStack() as pipes:
            self._processes = []
            for rank in range(self._size):
                # a rank stops when its standard input is closed: it must not outlive this process
                process = subprocess.Popen(  # noqa: S603 - this command
                    self._command,
                    stdin=subprocess.PIPE,
                    env=self._environment() | variables(rank, self._size, f"{folder}/store"),
                )
                self._processes.append(pipes.enter_context(process))
            if self.stopping:  # the signal came before the last one was started
                self.stop(signal.SIGTERM, None)
            return self._wait()

    def _wait(self) -> list[int]:
        """Wait until all have ended; kill those that stay when one has failed."""
        failed_at: float | None = None
        while None in (statuses := [process.poll() for process in self._processes]):
            if failed_at is None and any(statuses):
                failed_at = time.monotonic()
            if failed_at is not None and time.monotonic() - failed_at > GRACE_SECONDS:
                for process in self._processes:
                    process.kill()
            time.sleep(POLL_SECONDS)
        return [process.wait() for process in self._processes]

    def _environment(self) -> dict[str, str]:
        """Return this process's environment, with the cores divided among the ranks."""
        threads = max(1, len(os.sched_getaffinity(0)) // self._size)
        return {"OMP_NUM_THREADS": str(threads)} | dict(os.environ)


def _reason(statuses: Sequence[int]) -> int:
    """Return the exit status that says most: not that of a rank which has only lost another one."""
    if LetheError.status in statuses:
        return LetheError.status  # others may have been killed because of it
    failed = sorted((status for status in statuses if status), key=lambda status: status == RankLost.status)
    return failed[0] if failed[0] > 0 else 128 - failed[0]
