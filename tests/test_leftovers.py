"""What earlier runs left in a state folder, and how a service leaves no more than it must."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from service.errors import InvalidSetting
from service.learners.base import Retention
from service.learners.finetune import Finetune
from service.learners.lwf import LwF
from service.parts import create_watch
from service.privacy.leftovers import check_leftovers
from service.privacy.policy import Policy, PrivacyBudget, SampleRetention
from service.settings import DriftSettings
from service.state_folder import StateFolder, checkpoint_files, leftovers
from tests.checkpoints import checkpoint

STATISTICS = Policy(name="ward", retention=Retention.STATISTICS)
WEEK = Policy(
    name="week", retention=Retention.SAMPLES, samples=SampleRetention(capacity=9, ttl_seconds=604800)
)


def left(folder: Path, learner: str) -> Path:
    """The checkpoint of a learner, set aside by a fresh start."""
    with StateFolder(folder, keep=3) as state:
        state.write(replace(checkpoint(), fingerprint={"learner.name": learner}))
        state.begin_anew("another run")
    (path,) = leftovers(folder)
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
def test_a_checkpoint_set_aside_that_keeps_more_than_the_policy_allows_is_refused_by_name(
    policy: Policy, learner: str, refused: bool, tmp_path: Path
) -> None:
    path = left(tmp_path, learner)
    if not refused:
        check_leftovers(policy, tmp_path)
        return
    with pytest.raises(InvalidSetting, match=rf"{path.name} keeps samples, policy ward allows statistics"):
        check_leftovers(policy, tmp_path)


@pytest.mark.parametrize("learner", ["replay", "a learner that is not installed"])
def test_samples_set_aside_are_refused_when_their_time_is_up(learner: str, tmp_path: Path) -> None:
    path = left(tmp_path, learner)
    weeks = time.time() - 2 * 604800
    os.utime(path, (weeks, weeks))
    with pytest.raises(
        InvalidSetting, match=rf"{path.name} may keep samples, .* policy week allows 604800 s"
    ):
        check_leftovers(WEEK, tmp_path)


def test_checkpoints_that_cannot_be_read_and_those_set_aside_are_left_over_and_the_run_s_own_are_not(
    tmp_path: Path,
) -> None:
    with StateFolder(tmp_path, keep=3) as state:
        for samples in (64, 128):
            state.write(checkpoint(samples))
        checkpoint_files(tmp_path)[-1].write_bytes(b"torn")
        state.newest(lambda *_: None)
    assert [path.suffix for path in leftovers(tmp_path)] == [".unreadable"]
    check_leftovers(STATISTICS, tmp_path)
    with StateFolder(tmp_path, keep=3) as state:
        state.set_aside()
        state.write(checkpoint())
    assert len(leftovers(tmp_path)) == 2


def test_where_no_statistics_may_be_kept_or_only_noisy_ones_none_are_to_find_boundaries_by() -> None:
    nothing = STATISTICS.model_copy(update={"retention": Retention.NOTHING})
    assert create_watch(DriftSettings(), None, nothing, Finetune) is None
    budget = PrivacyBudget(epsilon=8, delta=1e-5)
    assert (
        create_watch(DriftSettings(), None, STATISTICS.model_copy(update={"budget": budget}), Finetune)
        is None
    )
    assert create_watch(DriftSettings(), None, STATISTICS, Finetune) is not None
    assert create_watch(DriftSettings(), None, None, Finetune) is not None


def test_a_learner_that_waits_for_boundaries_in_vain_is_named_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nothing = STATISTICS.model_copy(update={"retention": Retention.NOTHING})
    create_watch(DriftSettings(), None, STATISTICS, LwF)
    create_watch(DriftSettings(), None, nothing, Finetune)
    assert not caplog.records
    create_watch(DriftSettings(), None, nothing, LwF)
    assert "lwf hears of none" in caplog.text


def test_a_service_under_a_policy_leaves_no_picture_of_its_memory_when_it_crashes() -> None:
    program = """
import os, resource
from service.forgetful import leave_no_core
resource.setrlimit(resource.RLIMIT_CORE, (4096, resource.getrlimit(resource.RLIMIT_CORE)[1]))
leave_no_core()
os.execvp("cat", ["cat", "/proc/self/limits"])
"""
    limits = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core.split()[4] == "0"
