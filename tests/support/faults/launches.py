"""Commands that start ranks, and what becomes of them."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from lethe.experiments.chaos.outcome import Outcome
from lethe.experiments.chaos.ranked_service import rank_processes
from tests.support.checkpoints import saved_samples
from tests.support.faults.services import SIZE, Stage
from tests.support.waiting import until

__all__ = ["Launched", "arguments", "has_saved", "has_started", "launched", "learned_all"]

RUN = ("run", "--learner", "ncm", "--device", "cpu", "--batch-size", "32", "--port", "0")


class Launched:
    """A command that starts ranks, with the output of all in one file."""

    def __init__(self, command: Sequence[str], log: Path, variables: Mapping[str, str]) -> None:
        self._log = log
        own = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"}
        with log.open("wb") as file:
            environment = {**os.environ, **own, **variables}
            self.process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def ranks(self) -> Mapping[int, int]:
        """The process ids of the ranks that run, by rank."""
        return rank_processes(self.process.pid)

    def kill(self) -> None:
        """Kill the command and its ranks, as when its machine fails."""
        if self.process.poll() is None:
            for pid in self.ranks().values():
                os.kill(pid, signal.SIGKILL)
            self.process.kill()
        self.process.wait()


@contextmanager
def launched(
    command: Sequence[str], log: Path, variables: Mapping[str, str] | None = None
) -> Iterator[Launched]:
    started = Launched(command, log, variables or {})
    try:
        yield started
    finally:
        started.kill()


def arguments(stage: Stage, state: Path, total: int) -> list[str]:
    """The arguments of ``lethe``, to learn so many records."""
    stream = ["--bootstrap-servers", stage.bootstrap_servers, "--topic", stage.topic, "--group", stage.topic]
    layout = ["--sample-height", str(SIZE), "--sample-width", str(SIZE)]
    saves = ["--state", str(state), "--checkpoint-every", "64", "--stop-after", str(total)]
    return [*RUN, *stream, *layout, *saves]


def has_saved(started: Launched, state: Path, samples: int) -> None:
    def saved() -> bool:
        assert started.process.poll() is None, started.log
        return saved_samples(state) >= samples

    until(saved, f"{samples} samples are saved")


def has_started(started: Launched, ranks: int, times: int) -> None:
    def learning() -> bool:
        assert started.process.poll() is None, started.log
        return started.log.count(f"{ranks} ranks learn") >= times

    until(learning, f"{ranks} ranks have started {times} times")


def learned_all(state: Path, total: int) -> bool:
    found = Outcome.of(state)
    return (found.learned, found.lost(total), found.twice) == (total, 0, 0)
