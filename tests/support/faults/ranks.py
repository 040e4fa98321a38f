"""Forked ranks that learn one topic together, as torchrun would start them."""

import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lethe.checkpointing.checkpoint import state_digest
from lethe.errors import LetheError
from lethe.learners.state import State
from lethe.runtime.ranks.environment import variables
from lethe.runtime.run_rank import run_rank
from lethe.settings import Settings
from tests.support.checkpoints import newest, saved_samples
from tests.support.forked import forked
from tests.support.waiting import until

__all__ = ["Team", "has_learned", "sums", "team"]


class Team:
    """One start of all ranks; the output of each is in ``folder``."""

    def __init__(self, settings: Settings, ranks: int, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._logs = [folder / f"rank-{rank}.log" for rank in range(ranks)]
        self.processes = [
            forked().Process(target=_be_rank, args=(settings, variables(rank, ranks, f"{folder}/store"), log))
            for rank, log in enumerate(self._logs)
        ]
        for process in self.processes:
            process.start()

    @property
    def log(self) -> str:
        """The output of all ranks, one after another."""
        return "\n".join(log.read_text() for log in self._logs if log.exists())

    def send(self, rank: int, number: signal.Signals) -> None:
        pid = self.processes[rank].pid
        assert pid is not None
        os.kill(pid, number)

    def statuses(self, seconds: float = 240) -> Sequence[int]:
        """Wait until all have ended, and return their exit statuses."""
        for process in self.processes:
            process.join(seconds)
        found = [process.exitcode for process in self.processes]
        assert None not in found, f"some have not ended after {seconds:g} s:\n{self.log}"
        return [status for status in found if status is not None]

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()


@contextmanager
def team(settings: Settings, ranks: int, folder: Path) -> Iterator[Team]:
    """Run so many ranks; kill them on exit."""
    started = Team(settings, ranks, folder)
    try:
        yield started
    finally:
        started.kill()


def _be_rank(settings: Settings, environment: dict[str, str], log: Path) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    os.environ.update(environment)
    try:
        run_rank(settings)
    except LetheError as error:
        sys.stderr.write(f"lethe: {error}\n")
        sys.stderr.flush()
        os._exit(error.status)


def sums(folder: Path) -> str:
    """The SHA-256 of the sums in the newest checkpoint, without what was solved from them meanwhile."""
    summed = {
        name: tensor
        for name, tensor in newest(folder).learner.tensors.items()
        if name.rpartition(".")[2] in {"A", "A_high", "B"}
    }
    return state_digest(State(summed, {}))


def has_learned(started: Team, folder: Path, samples: int) -> None:
    """Wait until all ranks read, and a checkpoint holds so many samples."""

    def saved() -> bool:
        assert all(process.exitcode in (None, 0) for process in started.processes), started.log
        reading = f"{len(started.processes)} ranks learn" in started.log
        return reading and saved_samples(folder) >= samples

    until(saved, f"{samples} samples are saved")
