"""The system's clock jumps: in the service and in its reader, while both run."""

import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, ClassVar, Final

from lethe.ingest.reader_process import ProcessContext
from tests.support.forked import share

__all__ = ["Clock"]

HOUR: Final = 3600


@dataclass
class Clock:
    """Ahead by an hour from the second checkpoint to the fourth, in every process that `follow`s it.

    It is ahead as long as a file is there; who noticed is written beside that into ``clocks``.
    """

    ahead: Path
    taken: int = 0

    def __call__(self, step: str) -> None:
        self.taken += step == "taken"
        if step == "taken" and self.taken == 2:
            self.ahead.touch()
        if step == "taken" and self.taken == 4:
            self.ahead.unlink()

    def start(self, server: str) -> ProcessContext:
        """Called in the service's process: its clock jumps, and so does its reader's."""
        follow(self.ahead, "service")
        share(server)
        Feeder.ahead = self.ahead
        return Following()


def follow(ahead: Path, process: str) -> None:
    """Let this process's clock be ahead as long as there is a file."""
    real, real_ns = time.time, time.time_ns
    was = False

    def hours() -> int:
        nonlocal was
        now = ahead.exists()
        if now != was:
            was = now
            with ahead.with_name("clocks").open("a") as file:
                file.write(f"{process} {'ahead' if now else 'back'}\n")
        return HOUR if now else 0

    time.time = lambda: real() + hours()
    time.time_ns = lambda: real_ns() + hours() * 10**9


class Feeder(ForkServerProcess):
    """A reader whose clock jumps."""

    ahead: ClassVar[Path]

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._ahead = self.ahead  # the class attribute is not set in the process that runs this

    def run(self) -> None:
        follow(self._ahead, "reader")
        super().run()


class Following(ForkServerContext):
    """Starts such reader processes."""

    Process = Feeder
