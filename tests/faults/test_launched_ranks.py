"""Ranks that the command or torchrun starts: killed ones start again, stopped ones end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from lethe.checkpointing.checkpoint import read_samples
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.errors import InvalidFile
from lethe.experiments.chaos.outcome import Outcome
from lethe.experiments.chaos.ranked_service import rank_processes
from tests.support.faults.services import SIZE, Stage
from tests.support.faults.topics import Fill, records
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")

FIRST, SECOND = records("a", 400, 1), records("b", 403, 2)
TOTAL = len(FIRST) + len(SECOND)
RUN = ("run", "--learner", "ncm", "--device", "cpu", "--batch-size", "32", "--port", "0")


class Launched:
    """A command that starts ranks, with the output of all in one file."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._log = log
        environment = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"}
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def ranks(self) -> Mapping[int, int]:
        """The process ids of the ranks that run, by rank."""
        return rank_processes(self.process.pid)


@contextmanager
def launched(command: Sequence[str], log: Path) -> Iterator[Launched]:
    started = Launched(command, log)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            for pid in started.ranks().values():
                os.kill(pid, signal.SIGKILL)
            started.process.kill()
        started.process.wait()


def settings(stage: Stage, state: Path) -> list[str]:
    stream = ["--bootstrap-servers", stage.bootstrap_servers, "--topic", stage.topic, "--group", stage.topic]
    layout = ["--sample-height", str(SIZE), "--sample-width", str(SIZE)]
    saves = ["--state", str(state), "--checkpoint-every", "64", "--stop-after", str(TOTAL)]
    return [*RUN, *stream, *layout, *saves]


def has_saved(started: Launched, state: Path, samples: int) -> None:
    def saved() -> bool:
        assert started.process.poll() is None, started.log
        try:
            return max(map(read_samples, checkpoint_files(state)), default=0) >= samples
        except InvalidFile:  # an old one, deleted meanwhile
            return False

    until(saved, f"{samples} samples are saved")


def has_started(started: Launched, times: int) -> None:
    def learning() -> bool:
        assert started.process.poll() is None, started.log
        return started.log.count("2 ranks learn") >= times

    until(learning, f"the ranks have started {times} times")


def learned_all(state: Path) -> bool:
    found = Outcome.of(state)
    return (found.learned, found.lost(TOTAL), found.twice) == (TOTAL, 0, 0)


def test_the_command_starts_ranks_again_that_are_killed_and_ends_them_when_asked(
    fill: Fill, topic: str, tmp_path: Path
) -> None:
    stage, state = fill(topic, FIRST), tmp_path / "state"
    command = [sys.executable, "-m", "lethe", *settings(stage, state), "--ranks", "2"]
    with launched(command, tmp_path / "first.log") as started:
        has_saved(started, state, 128)
        os.kill(started.ranks()[1], signal.SIGKILL)
        has_started(started, 2)
        started.process.send_signal(signal.SIGTERM)
        assert started.process.wait(120) == 0, started.log
        assert "all start again" in started.log
    fill(topic, SECOND)
    with launched(command, tmp_path / "second.log") as started:
        assert started.process.wait(240) == 0, started.log
    assert learned_all(state)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_thirty_restarts_in_a_row(fill: Fill, topic: str, tmp_path: Path) -> None:
    stage, state = fill(topic, FIRST), tmp_path / "state"
    command = [sys.executable, "-m", "lethe", *settings(stage, state), "--ranks", "2"]
    with launched(command, tmp_path / "log") as started:
        for restart in range(1, 31):
            has_started(started, restart)
            os.kill(started.ranks()[restart % 2], signal.SIGKILL)
        has_started(started, 31)
        fill(topic, SECOND)
        assert started.process.wait(240) == 0, started.log
    assert learned_all(state)


@pytest.mark.long
def test_an_error_that_another_start_does_not_mend_ends_all_ranks(
    fill: Fill, topic: str, tmp_path: Path
) -> None:
    stage = fill(topic, FIRST[:10], 1)
    command = [sys.executable, "-m", "lethe", *settings(stage, tmp_path / "state"), "--ranks", "2"]
    with launched(command, tmp_path / "log") as started:
        assert started.process.wait(50) == 2, started.log
        assert "2 ranks need a partition each" in started.log
        assert "--ranks or LETHE_RUN__RANKS" in started.log


@pytest.mark.long
def test_ranks_end_with_the_process_that_started_them(fill: Fill, topic: str, tmp_path: Path) -> None:
    stage, state = fill(topic, FIRST), tmp_path / "state"
    command = [sys.executable, "-m", "lethe", *settings(stage, state), "--ranks", "2"]
    with launched(command, tmp_path / "log") as started:
        has_saved(started, state, 128)
        orphans = started.ranks().values()
        started.process.kill()
        until(lambda: not any(Path(f"/proc/{pid}/fd").exists() for pid in orphans), "the ranks have ended")


@pytest.mark.long
def test_torchrun_starts_ranks_again_that_are_killed(fill: Fill, topic: str, tmp_path: Path) -> None:
    stage, state = fill(topic, FIRST), tmp_path / "state"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "--max-restarts", "2", "-m", "lethe", *settings(stage, state)]
    with launched(command, tmp_path / "log") as started:
        has_saved(started, state, 128)
        os.kill(started.ranks()[0], signal.SIGKILL)
        has_started(started, 2)
        fill(topic, SECOND)
        assert started.process.wait(240) == 0, started.log
    assert learned_all(state)
