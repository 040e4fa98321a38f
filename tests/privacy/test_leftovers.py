"""What earlier runs left in a state folder, and what a process leaves in memory and core dumps."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lethe.checkpointing.state_folder import StateFolder, checkpoint_files, leftover_checkpoints
from lethe.errors import InvalidSetting
from lethe.learners.base import Retention
from lethe.learners.gradient.finetune import Finetune
from lethe.learners.gradient.lwf import LwF
from lethe.privacy.apply import check_leftovers
from lethe.privacy.controls import Controls, PolicyControls
from lethe.privacy.policy import Policy, PrivacyBudget, SampleRetention
from lethe.runtime.factories import create_detector
from lethe.settings import DriftSettings
from tests.support.checkpoints import checkpoint

STATISTICS = Policy(name="ward", retention=Retention.STATISTICS)
WEEK = Policy(
    name="week", retention=Retention.SAMPLES, samples=SampleRetention(capacity=9, ttl_seconds=604800)
)


def left(folder: Path, learner: str) -> Path:
    """Return the path of a learner's checkpoint, set aside by a fresh start."""
    with StateFolder(folder, keep=3) as state:
        state.write(replace(checkpoint(), fingerprint={"learner.name": learner}))
        state.start_fresh("another run")
    (path,) = leftover_checkpoints(folder)
    return path


@pytest.mark.parametrize(
    ("policy", "learner", "refused"),
    [
        (STATISTICS, "finetune", False),
        (STATISTICS, "ridge", False),
        (STATISTICS, "replay", True),
        (STATISTICS, "a learner that is not installed", False),
        (WEEK, "replay", False),
    ],
)
def test_a_checkpoint_set_aside_that_keeps_more_than_the_policy_allows_is_rejected_by_name(
    policy: Policy, learner: str, refused: bool, tmp_path: Path
) -> None:
    path = left(tmp_path, learner)
    if not refused:
        check_leftovers(policy, tmp_path, Finetune)
        return
    with pytest.raises(InvalidSetting, match=rf"{path.name} keeps samples, policy ward allows statistics"):
        check_leftovers(policy, tmp_path, Finetune)


def test_a_learner_of_another_package_is_not_imported_for_what_a_file_says_and_counts_as_keeping_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = tmp_path / "site" / "acheron-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acheron\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[lethe.learners]\nacheron = no_such_module:Acheron\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    path = left(tmp_path / "state", "acheron")
    with pytest.raises(InvalidSetting, match=rf"{path.name} keeps samples, policy ward allows statistics"):
        check_leftovers(STATISTICS, tmp_path / "state", Finetune)

    class Acheron(Finetune):
        name = "acheron"

    check_leftovers(STATISTICS, tmp_path / "state", Acheron)  # the one that runs is known


@pytest.mark.parametrize("learner", ["replay", "a learner that is not installed"])
def test_samples_set_aside_are_rejected_when_their_time_is_up(learner: str, tmp_path: Path) -> None:
    path = left(tmp_path, learner)
    weeks = time.time() - 2 * 604800
    os.utime(path, (weeks, weeks))
    with pytest.raises(InvalidSetting, match=rf"{path.name} may keep samples .* policy week allows 604800 s"):
        check_leftovers(WEEK, tmp_path, Finetune)


def test_checkpoints_that_cannot_be_read_and_those_set_aside_are_left_over_and_the_runs_own_are_not(
    tmp_path: Path,
) -> None:
    with StateFolder(tmp_path, keep=3) as state:
        for samples in (64, 128):
            state.write(checkpoint(samples))
        checkpoint_files(tmp_path)[-1].write_bytes(b"torn")
        state.load_newest(lambda *_: None)
    assert [path.suffix for path in leftover_checkpoints(tmp_path)] == [".unreadable"]
    check_leftovers(STATISTICS, tmp_path, Finetune)
    with StateFolder(tmp_path, keep=3) as state:
        state.set_aside()
        state.write(checkpoint())
    assert len(leftover_checkpoints(tmp_path)) == 2


def test_if_statistics_are_forbidden_or_must_be_noisy_no_boundary_is_detected() -> None:
    nothing = STATISTICS.model_copy(update={"retention": Retention.NOTHING})
    assert create_detector(DriftSettings(), None, PolicyControls(nothing), Finetune) is None
    budget = PrivacyBudget(epsilon=8, delta=1e-5)
    assert (
        create_detector(
            DriftSettings(), None, PolicyControls(STATISTICS.model_copy(update={"budget": budget})), Finetune
        )
        is None
    )
    assert create_detector(DriftSettings(), None, PolicyControls(STATISTICS), Finetune) is not None
    assert create_detector(DriftSettings(), None, Controls(), Finetune) is not None


def test_a_learner_that_never_gets_a_boundary_is_named_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nothing = STATISTICS.model_copy(update={"retention": Retention.NOTHING})
    create_detector(DriftSettings(), None, PolicyControls(STATISTICS), LwF)
    create_detector(DriftSettings(), None, PolicyControls(nothing), Finetune)
    assert not caplog.records
    create_detector(DriftSettings(), None, PolicyControls(nothing), LwF)
    assert "lwf is never notified of a boundary" in caplog.text


def test_a_service_under_a_policy_writes_no_core_dump() -> None:
    program = """
import os, resource
from lethe.ingest.scrubbing import disable_core_dumps, core_dumps_disabled
resource.setrlimit(resource.RLIMIT_CORE, (4096, resource.getrlimit(resource.RLIMIT_CORE)[1]))
assert not core_dumps_disabled()
disable_core_dumps()
assert core_dumps_disabled()
print(os.stat("/proc/self/mem").st_uid, flush=True)
os.execvp("cat", ["cat", "/proc/self/limits"])
"""
    owner, *limits = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert owner == "0"  # whoever runs it
    (core,) = [line for line in limits if line.startswith("Max core file size")]
    assert core.split()[4] == "0"


def test_the_memory_of_the_processes_that_read_is_protected_like_the_services(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("""
import ctypes, os, sys, time
from lethe.ingest.reader_process import ReaderProcess
from lethe.ingest.scrubbing import disable_core_dumps
from lethe.settings import BatchSettings
from lethe.stream.settings import StreamSettings
from lethe.wire import Layout

def is_open(pid):
    try:
        open(f"/proc/{pid}/mem", "rb").close()
    except PermissionError:
        return False
    return True

if __name__ == "__main__":
    how = sys.argv[1]
    if os.geteuid() == 0 and len(sys.argv) == 2:  # as anybody else: root without CAP_SYS_PTRACE
        ctypes.CDLL(None).prctl(24, 19, 0, 0, 0)
        os.execv(sys.executable, [sys.executable, *sys.argv, "bounded"])
    if how == "closed":
        disable_core_dumps()
    batch = BatchSettings(readers=2)
    feed = ReaderProcess(StreamSettings(bootstrap_servers="127.0.0.1:9"), batch, Layout())
    assert feed.next(90) is not None  # that no broker is there: it runs
    for pid in feed.pids:
        deadline = time.monotonic() + 60
        while how == "closed" and is_open(pid) and time.monotonic() < deadline:
            time.sleep(0.01)  # a decoder may still be starting
        print("open" if is_open(pid) else "closed")
    feed.close()
""")
    for how in ("open", "closed"):
        done = subprocess.run([sys.executable, program, how], capture_output=True, text=True, check=False)
        assert done.stdout.split() == 3 * [how], done.stderr
