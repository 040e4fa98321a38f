"""Several ranks under a policy: each learned record is purged, and none that a restart needs."""

import signal
from pathlib import Path

import pytest
import torch

from lethe.checkpointing.checkpoint import read_checkpoint, state_digest
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.errors import RankLost
from lethe.experiments.chaos.outcome import Outcome
from lethe.learners.analytic.base import SumsLearner
from lethe.learners.base import LearnerContext
from lethe.learners.registry import create
from lethe.learners.state import State
from lethe.privacy.audit.ledger import read_entries
from lethe.privacy.audit.receipt_writer import LEDGER
from lethe.privacy.policy import load_policy
from lethe.runtime.resume import resumed
from tests.support.faults.policies import held_to
from tests.support.faults.ranks import team
from tests.support.faults.topics import Fill, images, records, starts
from tests.support.ledgers import passed_audit
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")

SEGMENTS = (("a", 600, 1), ("b", 603, 2))
TOTAL = sum(count for _, count, _ in SEGMENTS)


def test_ranks_under_a_policy_learn_all_and_purge_what_all_have_learned(
    fill: Fill, topic: str, tmp_path: Path
) -> None:
    first, second = (records(*segment) for segment in SEGMENTS)
    stage = fill(topic, first)
    ward = tmp_path / "ward"
    state = ward / "state"
    held = held_to(ward, residency_seconds=60, purge={"within_seconds": 600}, on_violation="stop")
    batch, stream = {"size": 32, "linger": 0.2}, {"stop_after": TOTAL}
    settings = stage.settings("ridge", state, batch=batch, stream=stream, **held)
    with team(settings, 2, tmp_path / "killed") as started:

        def purged() -> bool:
            assert all(process.is_alive() for process in started.processes), started.log
            return sum(starts(stage).values()) > 0

        until(purged, "the first records are purged")
        started.send(1, signal.SIGKILL)
        assert started.statuses() == [RankLost.status, -signal.SIGKILL], started.log
    fill(topic, second)
    with team(settings, 2, tmp_path / "last") as started:
        assert started.statuses() == [0, 0], started.log

    found = Outcome.of(state)
    assert (found.lost(TOTAL), found.twice, found.learned) == (0, 0, TOTAL)
    assert sum(starts(stage).values()) == TOTAL, "of the partitions of both ranks"
    passed_audit(state, load_policy(held["privacy"]["policy"]), starts=starts(stage))
    assert "purge" in [entry.receipt.kind for entry in read_entries(state / LEDGER)]
    newest = read_checkpoint(checkpoint_files(state)[-1])
    assert not resumed(newest).violated
    learner = create("ridge", LearnerContext(settings.sample))
    assert isinstance(learner, SumsLearner)
    for _, count, seed in SEGMENTS:
        x_NCHW, y_N = images(count, seed)
        learner.learn(torch.from_numpy(x_NCHW), torch.from_numpy(y_N))
    summed = {name: newest.learner.tensors[name] for name in learner.sums()}
    assert state_digest(State(summed, {})) == state_digest(State(learner.sums(), {}))
