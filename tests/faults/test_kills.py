"""Services that are killed at random times and at every checkpoint step, terminated, or suspended."""

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self, cast

import pytest

from lethe.experiments.chaos.kill_loop import run_with_kills
from lethe.experiments.chaos.kill_plan import plan_kills
from lethe.experiments.chaos.outcome import Outcome
from tests.support.faults.checkpoint_steps import HELD_AT, Held, KillAt
from tests.support.faults.learners import EVERY_LEARNER, IN_GROUPS, TWO_OFTEN
from tests.support.faults.readers import alive, reading, spawning, state
from tests.support.faults.services import FAILED, Forked, Stage, all_running, running
from tests.support.faults.topics import Fill, records
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")

STEPS: Final = ("taken", "written", "forced", "renamed", "folder forced", "committed")
KILLS: Final = 25
START_SECONDS: Final = 0.6
"""About the duration of a start, so that some kills come before anything is learned."""
STOPPED_SECONDS: Final = 60.0


@dataclass
class Suspended:
    """Services that were all stopped in mid-stream."""

    services: dict[str, Forked]
    folder: Path
    since: float

    @property
    def processes(self) -> list[int]:
        """The process ids of the services and their readers."""
        return [pid for service in self.services.values() for pid in (service.pid, *reading(service.pid))]

    def of(self, learners: Iterable[str]) -> Self:
        """Those of ``learners`` alone."""
        return replace(self, services={name: self.services[name] for name in learners})

    def send(self, number: signal.Signals) -> None:
        for pid in self.processes:
            os.kill(pid, number)


@pytest.fixture(scope="module", autouse=True)
def suspended(
    request: pytest.FixtureRequest, stage: Stage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Suspended | None]:
    """Services that are stopped while this module's other tests run, to save a minute."""
    learners = [
        learner
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.originalname == test_consumers_suspended_for_a_minute.__name__
        for learner in cast("Sequence[str]", item.callspec.params["learners"])
    ]
    if not learners:
        yield None
        return
    folder = tmp_path_factory.mktemp("suspended")
    held = Held(folder / "go-on")
    with all_running(stage, folder, start=spawning, at=held, learners=learners) as services:
        for service in services.values():
            service.has_learned(HELD_AT)
        stopped = Suspended(services, folder, time.monotonic())
        stopped.send(signal.SIGSTOP)
        processes = stopped.processes
        (folder / "go-on").touch()
        try:
            yield stopped
        finally:
            for pid in processes:  # one that stays stopped would never notice the end of its service
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("learner", TWO_OFTEN)
def test_killed_at_random_instants(
    learner: str, stage: Stage, untouched: Callable[[str], Outcome], tmp_path: Path
) -> None:
    plan = plan_kills(KILLS, stage.total, START_SECONDS, seed=7)
    restarts = run_with_kills(lambda: Forked(stage.settings(learner, tmp_path / "state")), plan)
    assert restarts >= len(plan) == KILLS
    found = Outcome.of(tmp_path / "state")
    assert (found.lost(stage.total), found.twice) == (0, 0)
    assert found == untouched(learner)


@pytest.mark.parametrize("learner", EVERY_LEARNER)
def test_killed_at_every_step_of_a_checkpoint(
    learner: str, stage: Stage, untouched: Callable[[str], Outcome], tmp_path: Path
) -> None:
    settings = stage.settings(learner, tmp_path / "state")
    for nth, step in enumerate(STEPS):
        with running(settings, KillAt(step, left=1 if nth else 3)) as service:
            assert service.status() == -signal.SIGKILL, step
            assert not nth or "resuming from a checkpoint" in service.log
    with running(settings) as service:
        assert service.status() == 0
    assert Outcome.of(tmp_path / "state") == untouched(learner)


def test_a_run_that_began_at_the_end_and_learned_nothing_continues_from_there(
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


@pytest.mark.parametrize("learner", EVERY_LEARNER)
def test_stopped_twice_it_continues_after_a_restart_at_the_same_record(
    learner: str, stage: Stage, untouched: Callable[[str], Outcome], tmp_path: Path
) -> None:
    settings = stage.settings(learner, tmp_path / "state")
    with running(settings, Held(tmp_path / "go-on")) as service:
        service.has_learned(HELD_AT)
        service.send(signal.SIGTERM)
        service.send(signal.SIGTERM)
        (tmp_path / "go-on").touch()
        assert service.status() == 0
    stopped = Outcome.of(tmp_path / "state").learned
    assert HELD_AT <= stopped < stage.total
    with running(settings) as service:
        assert service.status() == 0
        assert f"{stopped} learned" in service.log
    assert Outcome.of(tmp_path / "state") == untouched(learner)


def test_the_feeder_of_a_killed_service_ends_by_itself(stage: Stage, tmp_path: Path) -> None:
    with running(
        stage.settings("finetune", tmp_path / "state"), Held(tmp_path / "go-on"), spawning
    ) as service:
        service.has_learned(HELD_AT)
        orphans = reading(service.pid)
        assert orphans
        service.kill()
    until(lambda: not any(alive(pid) for pid in orphans), "the reader is gone")


def test_a_feeder_that_is_killed_ends_the_service_loudly_and_loses_nothing(
    stage: Stage, untouched: Callable[[str], Outcome], tmp_path: Path
) -> None:
    settings = stage.settings("finetune", tmp_path / "state")
    with running(settings, Held(tmp_path / "go-on"), spawning) as service:
        service.has_learned(HELD_AT)
        for reader in reading(service.pid):
            os.kill(reader, signal.SIGKILL)
        (tmp_path / "go-on").touch()
        assert service.status() == FAILED
        assert "the reader process ended with status -9" in service.log
    with running(settings) as service:
        assert service.status() == 0
    assert Outcome.of(tmp_path / "state") == untouched("finetune")


def test_a_service_releases_the_checkpoint_that_it_resumed_from(stage: Stage, tmp_path: Path) -> None:
    settings = stage.settings("ridge", tmp_path / "state")
    with running(settings, KillAt("committed")) as service:
        assert service.status() == -signal.SIGKILL
    began = Outcome.of(tmp_path / "state").learned
    with running(settings, Held(tmp_path / "go-on")) as service:
        service.has_learned(began + HELD_AT)
        held = Path(f"/proc/{service.pid}/maps").read_text()
        (tmp_path / "go-on").touch()
        assert service.status() == 0
    assert str(tmp_path) not in held


@pytest.mark.parametrize("learners", IN_GROUPS)
def test_consumers_suspended_for_a_minute(
    learners: Sequence[str],
    suspended: Suspended | None,
    stage: Stage,
    untouched: Callable[[str], Outcome],
) -> None:
    assert suspended is not None
    stopped = suspended.of(learners)
    until(lambda: all(state(pid) == "T" for pid in stopped.processes), "all are stopped")
    time.sleep(max(0.0, stopped.since + STOPPED_SECONDS - time.monotonic()))
    stopped.send(signal.SIGCONT)
    for learner, service in stopped.services.items():
        assert service.status() == 0, learner
        assert Outcome.of(stopped.folder / learner / "state") == untouched(learner), learner
