"""Ranks that the command or torchrun starts: killed ones start again, stopped ones end."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.faults.launches import arguments, has_saved, has_started, launched, learned_all
from tests.support.faults.topics import Fill, records
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")

FIRST, SECOND = records("a", 400, 1), records("b", 403, 2)
TOTAL = len(FIRST) + len(SECOND)


def test_the_command_starts_ranks_again_that_are_killed_and_ends_them_when_asked(
    fill: Fill, topic: str, tmp_path: Path
) -> None:
    stage, state = fill(topic, FIRST), tmp_path / "state"
    command = [sys.executable, "-m", "lethe", *arguments(stage, state, TOTAL), "--ranks", "2"]
    with launched(command, tmp_path / "first.log") as started:
        has_saved(started, state, 128)
        os.kill(started.ranks()[1], signal.SIGKILL)
        has_started(started, 2, 2)
        started.process.send_signal(signal.SIGTERM)
        assert started.process.wait(120) == 0, started.log
        assert "all start again" in started.log
    fill(topic, SECOND)
    with launched(command, tmp_path / "second.log") as started:
        assert started.process.wait(240) == 0, started.log
    assert learned_all(state, TOTAL)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_thirty_restarts_in_a_row(fill: Fill, topic: str, tmp_path: Path) -> None:
    stage, state = fill(topic, FIRST), tmp_path / "state"
    command = [sys.executable, "-m", "lethe", *arguments(stage, state, TOTAL), "--ranks", "2"]
    with launched(command, tmp_path / "log") as started:
        for restart in range(1, 31):
            has_started(started, 2, restart)
            os.kill(started.ranks()[restart % 2], signal.SIGKILL)
        has_started(started, 2, 31)
        fill(topic, SECOND)
        assert started.process.wait(240) == 0, started.log
    assert learned_all(state, TOTAL)


@pytest.mark.long
def test_an_error_that_another_start_does_not_mend_ends_all_ranks(
    fill: Fill, topic: str, tmp_path: Path
) -> None:
    stage = fill(topic, FIRST[:10], 1)
    command = [sys.executable, "-m", "lethe", *arguments(stage, tmp_path / "state", TOTAL), "--ranks", "2"]
    with launched(command, tmp_path / "log") as started:
        assert started.process.wait(50) == 2, started.log
        assert "2 ranks need a partition each" in started.log
        assert "--ranks or LETHE_RUN__RANKS" in started.log


@pytest.mark.long
def test_ranks_end_with_the_process_that_started_them(fill: Fill, topic: str, tmp_path: Path) -> None:
    stage, state = fill(topic, FIRST), tmp_path / "state"
    command = [sys.executable, "-m", "lethe", *arguments(stage, state, TOTAL), "--ranks", "2"]
    with launched(command, tmp_path / "log") as started:
        has_saved(started, state, 128)
        orphans = started.ranks().values()
        started.process.kill()
        until(lambda: not any(Path(f"/proc/{pid}/fd").exists() for pid in orphans), "the ranks have ended")


@pytest.mark.long
def test_torchrun_starts_ranks_again_that_are_killed(fill: Fill, topic: str, tmp_path: Path) -> None:
    stage, state = fill(topic, FIRST), tmp_path / "state"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "--max-restarts", "2", "-m", "lethe", *arguments(stage, state, TOTAL)]
    with launched(command, tmp_path / "log") as started:
        has_saved(started, state, 128)
        os.kill(started.ranks()[0], signal.SIGKILL)
        has_started(started, 2, 2)
        fill(topic, SECOND)
        assert started.process.wait(240) == 0, started.log
    assert learned_all(state, TOTAL)
