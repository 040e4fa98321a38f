"""The disk: full, failing, and checkpoints that were damaged on it."""

import errno
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.chaos.outcome import Outcome
from service.checkpoint import read_checkpoint
from service.learners import LEARNERS
from service.state_folder import checkpoint_files
from tests.faults.harness import FAILED, Forked, Stage, running, until

pytestmark = pytest.mark.needs("kafka")

FAILURES = "lethe_checkpoint_failures_total"
WRITTEN = "lethe_checkpoints_written_total"
UNREADABLE = "lethe_checkpoints_unreadable_total"
ROOM = 100_000
"""Bytes a file may have while the disk is full: enough for a log, too few for any checkpoint."""


@dataclass
class HoldAt:
    """Holds the run up when a step is reached for the n-th time, until a file appears."""

    step: str
    nth: int
    go_on: Path

    def __call__(self, step: str) -> None:
        self.nth -= step == self.step
        if not self.nth:
            until(self.go_on.exists, f"{self.go_on.name} appears")
            self.nth -= 1


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_full_disk_stops_checkpoints_and_not_learning(
    learner: str, stage: Stage, untouched: Callable[[str], Outcome], tmp_path: Path
) -> None:
    state, go_on = tmp_path / "state", tmp_path / "go-on"
    settings = stage.settings(learner, state, serve={"keep": True})
    with running(settings, HoldAt("committed", 2, go_on)) as service:
        until(lambda: len(checkpoint_files(state)) == 2, "two checkpoints are written")
        before = [path.read_bytes() for path in checkpoint_files(state)]
        limit_files(service, ROOM)
        go_on.touch()
        service.has_learned(stage.total)
        until(lambda: service.metric(FAILURES) >= 1, "a failure is counted")
        assert "checkpoint not written, learning goes on" in service.log
        assert [path.read_bytes() for path in checkpoint_files(state)] == before
        limit_files(service, resource.RLIM_INFINITY)
        service.kill()
    assert read_checkpoint(checkpoint_files(state)[-1]).samples < stage.total
    with running(stage.settings(learner, state)) as service:
        assert service.status() == 0
    assert Outcome.of(state) == untouched(learner)


def test_checkpoints_are_written_again_when_there_is_room(
    stage: Stage, untouched: Callable[[str], Outcome], tmp_path: Path
) -> None:
    state, full, room = tmp_path / "state", tmp_path / "full", tmp_path / "room"
    with running(stage.settings("finetune", state), Filling(full, room)) as service:
        until(lambda: len(checkpoint_files(state)) == 1, "a checkpoint is written")
        limit_files(service, ROOM)
        full.touch()
        until(lambda: service.metric(FAILURES) >= 2, "failures are counted")
        written = service.metric(WRITTEN)
        limit_files(service, resource.RLIM_INFINITY)
        room.touch()
        assert service.status() == 0
        assert written == 1
    assert Outcome.of(state) == untouched("finetune")


@dataclass
class Filling:
    """Waits after the first checkpoint until the disk is full, and at the fifth until there is room."""

    full: Path
    room: Path
    taken: int = 0

    def __call__(self, step: str) -> None:
        self.taken += step == "taken"
        if step == "committed":
            until(self.full.exists, "the disk is full")
        if step == "taken" and self.taken == 5:
            until(self.room.exists, "there is room")


def limit_files(service: Forked, size: int) -> None:
    """From now on no file of the service may grow beyond ``size`` bytes."""
    resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@dataclass
class FailAt:
    """An I/O error at one step of the second and the third checkpoint."""

    step: str
    seen: int = 0

    def __call__(self, step: str) -> None:
        self.seen += step == self.step
        if step == self.step and self.seen in (2, 3):
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("step", ["written", "forced", "renamed", "folder forced"])
def test_an_io_error_at_any_step_costs_a_checkpoint_and_nothing_else(
    step: str, stage: Stage, untouched: Callable[[str], Outcome], tmp_path: Path
) -> None:
    with running(stage.settings("finetune", tmp_path / "state"), FailAt(step)) as service:
        assert service.status() == 0
        assert service.log.count("checkpoint not written, learning goes on") == 2
        assert "Input/output error" in service.log
    assert Outcome.of(tmp_path / "state") == untouched("finetune")


def stopped_midway(stage: Stage, learner: str, state: Path) -> list[Path]:
    """Learn until there are three checkpoints, and be killed."""
    with running(stage.settings(learner, state)) as service:
        service.has_learned(1500)
        service.send(signal.SIGTERM)
        assert service.status() == 0
    files = checkpoint_files(state)
    assert len(files) == 3
    return files


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("damage", [flip, truncate])
def test_a_damaged_checkpoint_is_passed_over_loudly_for_the_one_before(
    damage: Callable[[Path], None],
    learner: str,
    stage: Stage,
    untouched: Callable[[str], Outcome],
    tmp_path: Path,
) -> None:
    files = stopped_midway(stage, learner, tmp_path / "state")
    damage(files[-1])
    with running(stage.settings(learner, tmp_path / "state", serve={"keep": True})) as service:
        service.has_learned(stage.total)
        assert f"checkpoint passed over for an older one: {files[-1]}" in service.log
        assert service.metric(UNREADABLE) == 1
        service.send(signal.SIGTERM)
        assert service.status() == 0
    assert Outcome.of(tmp_path / "state") == untouched(learner)


def test_when_all_are_damaged_the_service_refuses_until_it_is_told_to_begin_anew(
    stage: Stage, untouched: Callable[[str], Outcome], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    for path in stopped_midway(stage, "finetune", state):
        flip(path)
    with running(stage.settings("finetune", state)) as service:
        assert service.status() == FAILED
        assert "none of the 3 checkpoints" in service.log
        assert "--fresh" in service.log
    assert len(checkpoint_files(state)) == 3
    with running(stage.settings("finetune", state, checkpoint={"fresh": True})) as service:
        assert service.status() == 0
    assert Outcome.of(state) == untouched("finetune")


def test_a_second_service_on_the_folder_is_refused(stage: Stage, tmp_path: Path) -> None:
    settings = stage.settings("finetune", tmp_path / "state", serve={"keep": True})
    with running(settings) as first:
        until(lambda: (tmp_path / "state" / "lock").exists() and first.learned(), "the first one learns")
        with running(stage.settings("finetune", tmp_path / "state")) as second:
            assert second.status() == FAILED
            assert "in use by another service" in second.log
