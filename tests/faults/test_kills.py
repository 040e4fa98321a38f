"""Killed at random instants and at every step of the checkpoints' protocol, asked to stop, and stopped."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from service.chaos.instants import instants
from service.chaos.outcome import Outcome
from service.chaos.victim import run_through
from service.feed import SPAWN, Processes
from service.learners import LEARNERS
from tests.faults.conftest import Fill, records
from tests.faults.harness import EVERY, FAILED, Forked, Stage, all_running, running
from tests.waiting import until

pytestmark = pytest.mark.needs("kafka")

STEPS: Final = ("taken", "written", "forced", "renamed", "folder forced", "committed")
KILLS: Final = 25
START_SECONDS: Final = 0.6
"""About what a start takes here, so that some kills come before anything is learned."""
HELD_SECONDS: Final = 180.0
STOPPED_SECONDS: Final = 60.0


@dataclass
class Suspended:
    """Services that were all stopped in mid-stream."""

    services: dict[str, Forked]
    folder: Path
    since: float

    @property
    def processes(self) -> list[int]:
        """Theirs and their feeders'."""
        return [pid for service in self.services.values() for pid in (service.pid, *children(service.pid))]

    def send(self, number: signal.Signals) -> None:
        for pid in self.processes:
            os.kill(pid, number)


@dataclass
class Held:
    """Keeps a service in mid-stream, at its third checkpoint, until a file appears."""

    go_on: Path
    taken: int = 0

    def __call__(self, step: str) -> None:
        self.taken += step == "taken"
        if self.taken == 3:
            until(self.go_on.exists, "the others are there, too", HELD_SECONDS)


@pytest.fixture(scope="module", autouse=True)
def suspended(
    request: pytest.FixtureRequest, stage: Stage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Suspended | None]:
    """Services that are stopped while this module's other tests run: a minute is long."""
    if not any(item.name == test_consumers_suspended_for_a_minute.__name__ for item in request.session.items):
        yield None
        return
    folder = tmp_path_factory.mktemp("suspended")
    with all_running(stage, folder, start=spawning, at=Held(folder / "go-on")) as services:
        for service in services.values():
            service.has_learned(2 * EVERY)
        stopped = Suspended(services, folder, time.monotonic())
        stopped.send(signal.SIGSTOP)
        (folder / "go-on").touch()
        yield stopped


@pytest.mark.parametrize("learner", LEARNERS)
def test_killed_at_random_instants(
    learner: str, stage: Stage, untouched: Callable[[str], Outcome], tmp_path: Path
) -> None:
    plan = instants(KILLS, stage.total, START_SECONDS, seed=7)
    restarts = run_through(lambda: Forked(stage.settings(learner, tmp_path / "state")), plan)
    assert restarts >= len(plan) == KILLS
    found = Outcome.of(tmp_path / "state")
    assert (found.lost(stage.total), found.twice) == (0, 0)
    assert found == untouched(learner)


@dataclass
class KillAt:
    """Kills its process when a step is reached for the n-th time: mid-stream, with older files there."""

    step: str
    left: int = 3

    def __call__(self, step: str) -> None:
        self.left -= step == self.step
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("learner", LEARNERS)
def test_killed_at_every_step_of_a_checkpoint(
    learner: str, stage: Stage, untouched: Callable[[str], Outcome], tmp_path: Path
) -> None:
    settings = stage.settings(learner, tmp_path / "state")
    for nth, step in enumerate(STEPS):
        with running(settings, KillAt(step, left=1 if nth else 3)) as service:
            assert service.status() == -signal.SIGKILL, step
            assert not nth or "going on from a checkpoint" in service.log
    with running(settings) as service:
        assert service.status() == 0
    assert Outcome.of(tmp_path / "state") == untouched(learner)


def test_a_run_that_began_at_the_end_and_learned_nothing_goes_on_from_there(
    fill: Fill, topic: str, tmp_path: Path
) -> None:
    stage = fill(topic, records("a", 100, 3))
    settings = stage.settings("finetune", tmp_path / "state", stream={"start": "latest", "stop_after": 300})
    with running(settings, KillAt("committed", left=1)) as service:
        assert service.status() == -signal.SIGKILL
    fill(topic, records("a", 300, 4))
    with running(settings) as service:
        assert service.status() == 0
    found = Outcome.of(tmp_path / "state")
    assert (found.learned, found.passed) == (300, 400)


@pytest.mark.parametrize("learner", LEARNERS)
def test_asked_to_stop_twice_it_goes_on_after_a_restart_from_where_it_stopped(
    learner: str, stage: Stage, untouched: Callable[[str], Outcome], tmp_path: Path
) -> None:
    settings = stage.settings(learner, tmp_path / "state")
    with running(settings) as service:
        service.has_learned(500)
        service.send(signal.SIGTERM)
        service.send(signal.SIGTERM)
        assert service.status() == 0
    stopped = Outcome.of(tmp_path / "state").learned
    assert 500 <= stopped < stage.total
    with running(settings) as service:
        assert service.status() == 0
        assert f"{stopped} learned" in service.log
    assert Outcome.of(tmp_path / "state") == untouched(learner)


def spawning(server: str) -> Processes:
    """As in production: the feeder is then a child of the service, and can be found."""
    return SPAWN


def test_the_feeder_of_a_killed_service_ends_by_itself(stage: Stage, tmp_path: Path) -> None:
    with running(stage.settings("finetune", tmp_path / "state"), start=spawning) as service:
        service.has_learned(500)
        orphans = children(service.pid)
        assert orphans
        service.kill()
    until(lambda: not any(alive(pid) for pid in orphans), "the feeder is gone", 15)


def test_a_feeder_that_is_killed_ends_the_service_loudly_and_loses_nothing(
    stage: Stage, untouched: Callable[[str], Outcome], tmp_path: Path
) -> None:
    settings = stage.settings("finetune", tmp_path / "state")
    with running(settings, Held(tmp_path / "go-on"), spawning) as service:
        service.has_learned(2 * EVERY)
        for feeder in children(service.pid):
            os.kill(feeder, signal.SIGKILL)
        (tmp_path / "go-on").touch()
        assert service.status() == FAILED
        assert "the feeder process ended with status -9" in service.log
    with running(settings) as service:
        assert service.status() == 0
    assert Outcome.of(tmp_path / "state") == untouched("finetune")


def test_a_service_lets_go_of_the_checkpoint_that_it_began_with(stage: Stage, tmp_path: Path) -> None:
    settings = stage.settings("ridge", tmp_path / "state")
    with running(settings, KillAt("committed")) as service:
        assert service.status() == -signal.SIGKILL
    began = Outcome.of(tmp_path / "state").learned
    with running(settings, Held(tmp_path / "go-on")) as service:
        service.has_learned(began + 2 * EVERY)
        held = Path(f"/proc/{service.pid}/maps").read_text()
        (tmp_path / "go-on").touch()
        assert service.status() == 0
    assert str(tmp_path) not in held


def test_consumers_suspended_for_a_minute(
    suspended: Suspended | None, stage: Stage, untouched: Callable[[str], Outcome]
) -> None:
    assert suspended is not None
    assert all(state(pid) == "T" for pid in suspended.processes)
    time.sleep(max(0.0, suspended.since + STOPPED_SECONDS - time.monotonic()))
    suspended.send(signal.SIGCONT)
    for learner, service in suspended.services.items():
        assert service.status() == 0, learner
        assert Outcome.of(suspended.folder / learner / "state") == untouched(learner), learner


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def state(pid: int) -> str | None:
    """The letter with which Linux tells what a process does: T is stopped, Z dead and not waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return None


def alive(pid: int) -> bool:
    return state(pid) not in ("Z", None)
