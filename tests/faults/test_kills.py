"""Killed at random instants and at every step of the checkpoints' protocol, asked to stop, and stopped."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.chaos.instants import instants
from service.chaos.outcome import Outcome
from service.chaos.victim import run_through
from service.learners import LEARNERS
from tests.faults.harness import Forked, Stage, running, until

pytestmark = pytest.mark.needs("kafka")

STEPS = ("taken", "written", "forced", "renamed", "folder forced", "committed")
KILLS = {"finetune": 25}
FEWER_KILLS = 10
START_SECONDS = 2.0
STOPPED_SECONDS = 10.0
"""A minute is too long for a test that runs often, and nothing would differ: no heartbeat can be missed."""


@pytest.mark.parametrize("learner", LEARNERS)
def test_killed_at_random_instants(
    learner: str, stage: Stage, untouched: Callable[[str], Outcome], tmp_path: Path
) -> None:
    plan = instants(KILLS.get(learner, FEWER_KILLS), stage.total, START_SECONDS, seed=7)
    restarts = run_through(lambda: Forked(stage.settings(learner, tmp_path / "state")), plan)
    assert restarts >= len(plan)
    found = Outcome.of(tmp_path / "state")
    assert (found.lost(stage.total), found.twice) == (0, 0)
    assert found == untouched(learner)


@dataclass
class KillAt:
    """Kills its process when a step is reached for the third time: mid-stream, with older files there."""

    step: str
    left: int = 3

    def __call__(self, step: str) -> None:
        self.left -= step == self.step
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_every_step_of_a_checkpoint(
    step: str, learner: str, stage: Stage, untouched: Callable[[str], Outcome], tmp_path: Path
) -> None:
    settings = stage.settings(learner, tmp_path / "state")
    with running(settings, KillAt(step)) as service:
        assert service.status() == -signal.SIGKILL
    with running(settings) as service:
        assert service.status() == 0
        assert "going on from a checkpoint" in service.log
    assert Outcome.of(tmp_path / "state") == untouched(learner)


@pytest.mark.parametrize("learner", LEARNERS)
def test_asked_to_stop_twice_in_a_row_and_again_after_a_restart(
    learner: str, stage: Stage, untouched: Callable[[str], Outcome], tmp_path: Path
) -> None:
    settings = stage.settings(learner, tmp_path / "state")
    for samples in (500, 1500):
        with running(settings) as service:
            service.has_learned(samples)
            service.send(signal.SIGTERM)
            service.send(signal.SIGTERM)
            assert service.status() == 0
    with running(settings) as service:
        assert service.status() == 0
    assert Outcome.of(tmp_path / "state") == untouched(learner)


def test_nothing_learned_is_learned_again_after_sigterm(stage: Stage, tmp_path: Path) -> None:
    settings = stage.settings("finetune", tmp_path / "state")
    with running(settings) as service:
        service.has_learned(500)
        service.send(signal.SIGTERM)
        assert service.status() == 0
    stopped = Outcome.of(tmp_path / "state").learned
    with running(settings) as service:
        assert service.status() == 0
        assert f"{stopped} learned" in service.log


def test_a_consumer_that_is_suspended_goes_on(
    stage: Stage, untouched: Callable[[str], Outcome], tmp_path: Path
) -> None:
    with running(stage.settings("finetune", tmp_path / "state")) as service:
        service.has_learned(500)
        processes = [service.pid, *children(service.pid)]
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(STOPPED_SECONDS)
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
        assert service.status() == 0
    assert Outcome.of(tmp_path / "state") == untouched("finetune")


def test_the_feeder_of_a_killed_service_ends_by_itself(stage: Stage, tmp_path: Path) -> None:
    with running(stage.settings("finetune", tmp_path / "state")) as service:
        service.has_learned(500)
        orphans = children(service.pid)
        assert orphans
        service.kill()
    until(lambda: not any(alive(pid) for pid in orphans), "the feeder is gone", 15)


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
