"""A private learner's results are stored before they are published; what is released twice counts twice."""

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from lethe.checkpointing.checkpoint import Checkpoint, OnStep, ignore_step, read_checkpoint
from lethe.checkpointing.checkpointer import Checkpointer
from lethe.checkpointing.state_folder import StateFolder, checkpoint_files
from lethe.errors import BudgetSpent, StateNotSaved
from lethe.evaluation.evaluator import Evaluator
from lethe.evaluation.history import History
from lethe.events import CheckpointFailed, CheckpointWritten, Evaluated, Event
from lethe.ingest.batcher import Start
from lethe.learners.base import LearnerContext, Retention
from lethe.learners.finite import FiniteCheck
from lethe.learners.private.accounting import epsilon_of
from lethe.learners.private.base import PrivacyAccountant, PrivateOptions
from lethe.learners.private.dp_finetune import DPFinetune
from lethe.learners.private.dp_ridge import DPRidge
from lethe.learners.state import JSON
from lethe.observability.run_state import RunState
from lethe.privacy.audit.receipt_writer import LedgerReceipts, Receipts, open_receipts
from lethe.privacy.controls import Controls
from lethe.runtime.loop import Loop
from lethe.runtime.persistence import Checkpoints
from lethe.runtime.resume import take_checkpoint
from lethe.settings import Settings
from tests.support.feeds import LAYOUT, ScriptedFeed, images, segment
from tests.support.runs import probe

DELTA = 1e-5
SETTINGS = Settings.read({"checkpoint": {"every_seconds": 3600}})


def account(**options: object) -> PrivacyAccountant:
    return PrivacyAccountant(PrivateOptions.model_validate(options))


def test_records_that_are_released_again_cost_as_much_again() -> None:
    spent = account(noise_multiplier=2.0, epsilon=100.0)
    once, twice, thrice = (epsilon_of(0.5 * n**0.5, DELTA) for n in (1, 2, 3))
    assert spent.privacy(7, 8).epsilon == once
    spent.record_rollback(releases=3)
    assert spent.privacy(4, 5).epsilon == once, "they have not been learned again yet"
    spent.released()
    spent.released()
    assert spent.privacy(5, 6).epsilon == twice
    other = account(noise_multiplier=2.0, epsilon=100.0)
    other.load_values(spent.values())
    assert other.privacy(5, 6).epsilon == twice, "a restart keeps the account"
    other.record_rollback(releases=1)
    other.released()
    assert other.privacy(5, 6).epsilon == thrice


def test_each_continuation_from_the_same_state_counts() -> None:
    spent = account(noise_multiplier=2.0, epsilon=100.0)
    spent.record_rollback(releases=5, ways=2)
    assert spent.privacy(4, 5).epsilon == epsilon_of(0.5 * 2**0.5, DELTA), "twice until now"
    spent.released()
    assert spent.privacy(5, 6).epsilon == epsilon_of(0.5 * 3**0.5, DELTA)


def test_a_lost_release_stays_spent_if_all_releases_are_counted() -> None:
    spent = account(appearances=0, noise_multiplier=2.0, epsilon=100.0)
    spent.record_rollback(releases=3)
    assert spent.privacy(4, 5).epsilon == epsilon_of(0.5 * 7**0.5, DELTA)


def test_noise_for_one_release_leaves_no_room_for_a_second_one_of_the_same_records() -> None:
    learner = DPFinetune(LearnerContext(LAYOUT, options={"noise": "secret"}))
    x_NCHW, y_N = images(8)
    learner.learn(torch.from_numpy(x_NCHW), torch.from_numpy(y_N))
    assert not learner.privacy().spent
    learner.record_rollback(1)
    assert learner.privacy().spent
    assert learner.privacy().epsilon == pytest.approx(8.0)
    with pytest.raises(BudgetSpent):
        learner.learn(torch.from_numpy(x_NCHW), torch.from_numpy(y_N))


@pytest.mark.parametrize("kind", [DPFinetune, DPRidge])
def test_after_a_restart_the_same_and_other_records_get_noise_of_their_own(
    kind: type[DPFinetune] | type[DPRidge],
) -> None:
    options: dict[str, JSON] = {"noise": "secret", "epsilon": 8.0, "noise_multiplier": 2.0}
    learner = kind(LearnerContext(LAYOUT, options=options))
    state = learner.state()
    assert "key" not in state.tensors
    x_BCHW, y_B = (torch.from_numpy(part) for part in images(1024))
    releases = []
    for _ in range(2):
        restarted = kind(LearnerContext(LAYOUT, options=options))
        restarted.load_state(state)
        restarted.record_rollback(1)
        restarted.learn(x_BCHW, y_B)
        released = restarted.state().tensors["weight" if kind is DPFinetune else "A"].double()
        releases.append(released)
    apart = (releases[0] - releases[1]).flatten()
    assert (apart == 0).double().mean() < 0.01


class FullDisk(StateFolder):
    """A folder in which nothing can be written while it is ``full``."""

    full = False

    def write(self, checkpoint: Checkpoint, at: OnStep = ignore_step, *, replace_newest: bool = False) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(checkpoint, at, replace_newest=replace_newest)


def learn(folder: FullDisk, see: Callable[[Event], None]) -> History:
    """Learn two segments with secret noise; checkpoints are due for evaluations alone."""
    learner = DPFinetune(LearnerContext(LAYOUT, options={"noise": "secret"}))
    history = History(["a", "b"])
    run_state = RunState(SETTINGS, DPFinetune, history)
    checkpointer = Checkpointer(folder, SETTINGS.checkpoint, see, lambda _: None)
    taking = partial(take_checkpoint, SETTINGS, learner, history, run_state, Receipts())
    loop = Loop(
        feed=ScriptedFeed([*segment("a", 52), *segment("b", 44, seed=1)]),
        learner=learner,
        evaluator=Evaluator([probe("a"), probe("b")], subset=10, seed=0),
        evaluate_every=24,
        history=history,
        emit=see,
        stopping=lambda: False,
        persistence=Checkpoints(checkpointer, taking, FiniteCheck(learner)),
        commit_first=True,
    )
    try:
        loop.run()
    finally:
        checkpointer.close()
    return history


def test_the_learner_is_measured_only_once_a_checkpoint_of_that_moment_is_on_the_disk(tmp_path: Path) -> None:
    kept, measured = [0], []

    def see(event: Event) -> None:
        if isinstance(event, CheckpointWritten):
            kept.append(event.samples)
        if isinstance(event, Evaluated):
            measured.append((event.samples, kept[-1]))

    with FullDisk(tmp_path, keep=3) as folder:
        assert learn(folder, see).samples == 96
    assert [samples for samples, _ in measured] == [0, 24, 48, 48, 72, 96, 96]
    assert all(samples == on_disk for samples, on_disk in measured), measured


def test_nothing_is_measured_while_checkpoints_cannot_be_written_and_a_segments_end_stops_it(
    tmp_path: Path,
) -> None:
    events: list[Event] = []
    with FullDisk(tmp_path, keep=3) as folder:
        folder.full = True
        with pytest.raises(StateNotSaved, match="dp-finetune publishes nothing before it is"):
            learn(folder, events.append)
    assert [event.samples for event in events if isinstance(event, Evaluated)] == [0]
    assert any(isinstance(event, CheckpointFailed) for event in events)


def go_on(folder: StateFolder, samples: int) -> tuple[int, int]:
    """Learn up to so many samples from the newest checkpoint on.

    Return the position of the checkpoint, and in how many releases a record may have been at the end.
    """
    found = folder.load_newest(lambda *_: None)
    begun = 0 if found is None else found.samples
    options: dict[str, JSON] = {"noise": "secret", "epsilon": 100.0, "noise_multiplier": 2.0}
    learner = DPFinetune(LearnerContext(LAYOUT, options=options))
    history = History([]) if found is None else History.from_json(found.history)
    run_state = RunState(SETTINGS, DPFinetune, history)
    receipts = open_receipts(folder, "images", learner.retains, Controls(), found)
    assert isinstance(receipts, LedgerReceipts)
    if found is not None:
        learner.load_state(found.learner)
    if receipts.unlearned:
        learner.record_rollback(sum(receipts.unlearned), len(receipts.unlearned))
    feed = ScriptedFeed(segment(None, samples)[begun:])
    if found is not None:
        feed.go_on(found.position)
    settings = SETTINGS.checkpoint.model_copy(update={"every_samples": 16})
    checkpointer = Checkpointer(folder, settings, lambda _: None, receipts.on_disk)
    taking = partial(take_checkpoint, SETTINGS, learner, history, run_state, receipts)
    loop = Loop(
        feed=feed,
        learner=learner,
        evaluator=None,
        evaluate_every=1000,
        history=history,
        emit=lambda _: None,
        stopping=lambda: history.samples >= samples,
        persistence=Checkpoints(checkpointer, taking, FiniteCheck(learner)),
        receipts=receipts,
        start=None if found is None else Start(found.position, None),
    )
    loop.run()
    checkpointer.close()
    spent = learner.privacy().epsilon
    (releases,) = (n for n in range(1, 9) if spent == epsilon_of(0.5 * n**0.5, DELTA))
    return begun, releases


def tear(folder: StateFolder, samples: int) -> None:
    """Damage every checkpoint of more samples than that."""
    for path in checkpoint_files(folder.folder):
        if read_checkpoint(path).samples > samples:
            path.write_bytes(b"torn")


def test_however_often_a_run_is_thrown_back_behind_what_it_published_each_release_counts(
    tmp_path: Path,
) -> None:
    with StateFolder(tmp_path, keep=9) as folder:
        assert go_on(folder, 64) == (0, 1)
        assert go_on(folder, 64) == (64, 1)
        tear(folder, 48)
        assert go_on(folder, 56) == (48, 2)
        assert go_on(folder, 56) == (56, 2)
        tear(folder, 48)  # a checkpoint of the second way, before its first batch, is there, too
        assert go_on(folder, 64) == (48, 3)
        tear(folder, 32)
        assert go_on(folder, 64) == (32, 4), "three ways went on from there"


def test_batches_after_a_checkpoint_are_counted_once_per_continuation(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=9) as folder:
        go_on(folder, 64)
        early = next(c for c in map(read_checkpoint, checkpoint_files(tmp_path)) if c.samples == 32)
        tear(folder, 48)
        go_on(folder, 56)
        receipts = open_receipts(folder, "images", Retention.NOTHING, Controls(), early)
        assert receipts.unlearned == (4, 1)
