"""Full and failing disks, and damaged checkpoints."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lethe.checkpointing.checkpoint import OnStep, read_checkpoint
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.experiments.chaos.outcome import Outcome
from tests.support.faults.disks import FULL, TORN, BadDisk, FailAt, Filled, flip, truncate
from tests.support.faults.learners import EVERY_LEARNER, TWO_OFTEN
from tests.support.faults.services import FAILED, Forked, Stage, running
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")

FAILURES = "lethe_checkpoint_failures_total"
WRITTEN = "lethe_checkpoints_written_total"
UNREADABLE = "lethe_checkpoints_unreadable_total"
DISK_BYTES = 8 << 20


def learns_on_without_a_disk(service: Forked, state: Path, good: Path, reason: str) -> None:
    """Check that learning continues and the last checkpoint stays while writes fail; then repair the disk."""
    until(lambda: len(checkpoint_files(state)) >= 1, "a checkpoint is written")
    until(lambda: service.metric(FAILURES) >= 3, "failures are counted")
    failed = "checkpoint not written, learning continues"
    until(lambda: service.log.count(failed) >= 3, "each failure is logged, just after it was counted")
    assert reason in service.log
    newest = read_checkpoint(checkpoint_files(state)[-1])
    assert service.metric(WRITTEN) == len(checkpoint_files(state))
    assert service.learned() > newest.samples
    good.touch()
    assert service.status() == 0


@pytest.mark.parametrize("learner", TWO_OFTEN)
@pytest.mark.parametrize(
    ("device", "reason"), [(FULL, "No space left on device"), (TORN, "Input/output error")], ids=str
)
def test_a_disk_that_rejects_writes_delays_checkpoints_and_not_learning(
    device: Path,
    reason: str,
    learner: str,
    stage: Stage,
    untouched: Callable[[str], Outcome],
    tmp_path: Path,
) -> None:
    state, good = tmp_path / "state", tmp_path / "good"
    with running(stage.settings(learner, state), BadDisk(device, good)) as service:
        learns_on_without_a_disk(service, state, good, reason)
    assert Outcome.of(state) == untouched(learner)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes; creating one needs root."""
    folder = tmp_path / "state"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "lethe-test", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_file_system_that_is_full_and_then_has_space_again(
    small_disk: Path, stage: Stage, untouched: Callable[[str], Outcome], tmp_path: Path
) -> None:
    good = tmp_path / "good"
    with running(stage.settings("finetune", small_disk), Filled(small_disk / "filler", good)) as service:
        learns_on_without_a_disk(service, small_disk, good, "No space left on device")
    assert Outcome.of(small_disk) == untouched("finetune")


@pytest.mark.parametrize("learner", EVERY_LEARNER)
def test_an_io_error_at_any_step_costs_a_checkpoint_and_nothing_else(
    learner: str, stage: Stage, untouched: Callable[[str], Outcome], tmp_path: Path
) -> None:
    failing: OnStep = FailAt(["written", "forced", "renamed", "folder forced"])
    with running(stage.settings(learner, tmp_path / "state"), failing) as service:
        assert service.status() == 0
        assert service.log.count("checkpoint not written, learning continues") == 4
        assert service.log.count("Input/output error") == 4
    assert Outcome.of(tmp_path / "state") == untouched(learner)


def killed_midway(stage: Stage, learner: str, state: Path) -> list[Path]:
    """Learn until there are three checkpoints, or four: the service continues until it is killed."""
    with running(stage.settings(learner, state)) as service:
        until(lambda: len(checkpoint_files(state)) >= 3, "there are three")
        service.kill()
    return checkpoint_files(state)


@pytest.mark.parametrize("learner", EVERY_LEARNER)
def test_damaged_checkpoints_are_logged_and_skipped_for_the_previous_one(
    learner: str, stage: Stage, untouched: Callable[[str], Outcome], tmp_path: Path
) -> None:
    *_, truncated, flipped = killed_midway(stage, learner, tmp_path / "state")
    flip(flipped)
    truncate(truncated)
    with running(stage.settings(learner, tmp_path / "state", serve={"keep": True})) as service:
        service.has_learned(stage.total)
        for path in (flipped, truncated):
            assert f"unreadable checkpoint skipped for an older one: {path}" in service.log
        assert service.metric(UNREADABLE) == 2
        until(lambda: "the run has ended" in service.log, "the last evaluation is done")
        service.send(signal.SIGTERM)
        assert service.status() == 0
    assert Outcome.of(tmp_path / "state") == untouched(learner)


def test_when_all_are_damaged_the_service_refuses_until_it_is_started_fresh(
    stage: Stage, untouched: Callable[[str], Outcome], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    checkpoints = killed_midway(stage, "finetune", state)
    for path in checkpoints:
        flip(path)
    with running(stage.settings("finetune", state)) as service:
        assert service.status() == FAILED
        assert f"none of the {len(checkpoints)} checkpoints" in service.log
        assert "--fresh" in service.log
    assert checkpoint_files(state) == checkpoints
    fresh = stage.settings("finetune", state, checkpoint={"fresh": True})
    with running(fresh) as service:
        service.has_learned(stage.total // 2)  # it has started from scratch
        service.kill()
    with running(fresh) as service:  # as a supervisor does it, with the flag still given
        assert service.status() == 0
        assert "resuming from a checkpoint" in service.log
    assert Outcome.of(state) == untouched("finetune")


def test_a_second_service_on_the_folder_is_refused(stage: Stage, tmp_path: Path) -> None:
    settings = stage.settings("finetune", tmp_path / "state", serve={"keep": True})
    with running(settings) as first:
        until(lambda: (tmp_path / "state" / "lock").exists() and first.learned(), "the first one learns")
        with running(stage.settings("finetune", tmp_path / "state")) as second:
            assert second.status() == FAILED
            assert "in use by another service" in second.log
