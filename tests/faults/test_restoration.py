"""A run that gets an older learner back learns every offset of Apache Kafka once, and its audit passes."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from lethe.checkpointing.checkpoint import read_checkpoint
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.experiments.chaos.outcome import Outcome
from lethe.privacy.audit.ledger import read_entries
from lethe.privacy.audit.receipt_writer import LEDGER
from lethe.privacy.restoration import restore_learner
from lethe.privacy.verify_sums import verify_topic
from tests.support.faults.checkpoint_steps import KillAt
from tests.support.faults.ranks import team
from tests.support.faults.services import EVERY, Stage, running
from tests.support.faults.topics import Fill, records
from tests.support.ledgers import passed_audit

pytestmark = pytest.mark.needs("kafka")


@pytest.mark.parametrize("learner", [pytest.param("finetune", marks=pytest.mark.long), "ridge"])
def test_it_runs_on_and_every_offset_is_learned_once(learner: str, stage: Stage, tmp_path: Path) -> None:
    state = tmp_path / "state"
    short = replace(stage, total=6 * EVERY)
    given = short.settings(learner, state, checkpoint={"keep": 20})
    with running(given) as service:
        assert service.status() == 0
    older = [path for path in checkpoint_files(state) if read_checkpoint(path).samples == 2 * EVERY][-1]
    known = read_checkpoint(older).digest
    done = restore_learner(state, str(2 * EVERY))
    assert (done.samples, done.unlearned) == (6 * EVERY, 4 * EVERY)
    assert read_checkpoint(done.checkpoint).digest == known
    on = stage.settings(learner, state, checkpoint={"keep": 20})
    with running(on, KillAt("renamed", left=2)) as service:
        assert service.status() == -signal.SIGKILL
    with running(on) as service:
        assert service.status() == 0
    found = Outcome.of(state)
    assert (found.learned, found.dead, found.twice, found.lost(stage.total)) == (stage.total, 0, 0, 0)
    assert passed_audit(state).learned == stage.total
    receipts = [entry.receipt for entry in read_entries(state / LEDGER)]
    batches = [receipt for receipt in receipts if receipt.kind == "batch"]
    for partition in (0, 1):
        spans = [s for receipt in batches for s in receipt.spans if s.partition == partition]
        assert [span.first for span in spans] == [0, *(span.next for span in spans[:-1])]
    if learner == "ridge":
        sums = verify_topic(state, on.stream)
        assert sums.equal, "the sums are those of the topic without the unlearned offsets"
        assert sums.samples == stage.total - 4 * EVERY


@pytest.mark.long
def test_ranks_run_on_with_an_older_learner(fill: Fill, topic: str, tmp_path: Path) -> None:
    stage, state = fill(topic, records("a", 1536, 4), 6), tmp_path / "state"

    def learn(total: int, ranks: int) -> None:
        given = stage.settings(
            "ridge", state, batch={"size": 32}, stream={"stop_after": total}, checkpoint={"keep": 20}
        )
        with team(given, ranks, tmp_path / f"{ranks} ranks") as started:
            assert started.statuses() == [0] * ranks, started.log

    learn(768, 2)
    done = restore_learner(state, None)
    assert done.samples == 768
    assert done.unlearned == 768 - done.older > 0
    learn(stage.total, 3)
    found = Outcome.of(state)
    assert (found.learned, found.twice, found.lost(stage.total)) == (stage.total, 0, 0)
    passed_audit(state)
    sums = verify_topic(state, stage.settings("ridge", state).stream)
    assert (sums.equal, sums.samples) == (True, stage.total - done.unlearned)
