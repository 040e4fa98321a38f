"""``lethe checkpoint rollback --keep-position`` gives a run an older learner back, and adds a receipt."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from lethe.checkpointing.checkpoint import Checkpoint, read_checkpoint, read_samples
from lethe.checkpointing.state_folder import StateFolder, checkpoint_files, leftover_checkpoints
from lethe.errors import NeverLearned
from lethe.learners.state import JSON, State
from lethe.privacy.audit.learned_offsets import LearnedOffsets, receipts_of, regimes_at
from lethe.privacy.audit.ledger import Ledger, read_entries
from lethe.privacy.audit.receipt import Receipt, RegimeSpan, Span
from lethe.privacy.audit.receipt_writer import LEDGER, open_ledger
from tests.support.checkpoints import checkpoint, newest
from tests.support.commands import Lethe
from tests.support.ledgers import passed_audit
from tests.support.rollbacks import (
    DIGEST,
    RECEIPT,
    about,
    assert_refused,
    fingerprint,
    learn_batch,
    unwritable_ledger,
    write_states,
)


def taken(samples: int, ledger: Ledger, learner: str = "finetune", kept: JSON = None) -> Checkpoint:
    return replace(
        checkpoint(samples),
        fingerprint=fingerprint(learner),
        learner=State({"model.0.weight": torch.full((2,), float(samples))}, {"seen": samples}),
        random={"cpu": torch.full((4,), samples % 256, dtype=torch.uint8)},
        ranks=f"of {samples}",
        predictions=f"from {samples}",
        ledger=about(ledger, kept),
    )


def fill(
    folder: Path,
    after: Sequence[Receipt] = (),
    learner: str = "finetune",
    kept: JSON = None,
    batches: int = 4,
) -> None:
    write_states(folder, partial(taken, learner=learner, kept=kept), batches, after)


def go_back(lethe: Lethe, folder: Path, *arguments: str) -> list[str]:
    done = lethe("checkpoint", "rollback", str(folder), "--keep-position", *arguments)
    assert (done.code, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_the_learner_is_the_older_one_and_all_else_is_the_newest(lethe: Lethe, tmp_path: Path) -> None:
    fill(tmp_path)
    older, before = read_checkpoint(checkpoint_files(tmp_path)[1]), newest(tmp_path)
    said = go_back(lethe, tmp_path, "--to", "128")
    after = newest(tmp_path)
    assert said == [
        f"{tmp_path}/checkpoint-000000000005.safetensors resumes after 256 samples, with the learner of 128",
        (
            "unlearned: 128 samples, which are not read again; "
            f"moved newer checkpoints to {leftover_checkpoints(tmp_path)[0].parent}"
        ),
    ]
    assert after.digest == older.digest
    assert (after.position, after.samples, after.fingerprint) == (
        before.position,
        before.samples,
        before.fingerprint,
    )
    assert (after.history, after.counts, after.timing) == (before.history, before.counts, before.timing)
    assert (after.ranks, after.predictions) == ("of 256", "from 256")
    assert torch.equal(after.random["cpu"], before.random["cpu"])
    assert [read_samples(path) for path in checkpoint_files(tmp_path)] == [64, 128, 256]
    assert [read_samples(path) for path in leftover_checkpoints(tmp_path)] == [192, 256]


def test_by_default_it_is_the_newest_that_has_learned_less(lethe: Lethe, tmp_path: Path) -> None:
    fill(tmp_path)
    with StateFolder(tmp_path, 10) as state:
        state.write(newest(tmp_path))  # as after a segment that ended with the checkpoint
    checkpoint_files(tmp_path)[2].write_bytes(b"damaged")
    go_back(lethe, tmp_path)
    assert newest(tmp_path).learner.values == {"seen": 128}


def test_the_ledger_has_a_receipt_and_an_audit_passes_as_the_run_goes_on(
    lethe: Lethe, tmp_path: Path
) -> None:
    fill(tmp_path)
    go_back(lethe, tmp_path, "--to", "128")
    *_, receipt = (entry.receipt for entry in read_entries(tmp_path / LEDGER))
    assert (receipt.kind, receipt.spans, receipt.erased) == ("restoration", (Span(0, 128, 256),), 128)
    assert (receipt.back_to, receipt.policy, receipt.retention) == (2, DIGEST, "nothing")
    for samples in (320, 384):
        answers = {finding.question: finding.answer for finding in passed_audit(tmp_path).findings}
        assert answers["What was unlearned otherwise?"].startswith("128 of ")
        with StateFolder(tmp_path, 10) as state:
            learn_batch(state, open_ledger(tmp_path, newest(tmp_path)), samples, taken)
    learned = LearnedOffsets.of("images", receipts_of(tmp_path, newest(tmp_path)))
    assert (learned.learned, learned.knows(0, 127), learned.knows(0, 128), learned.knows(0, 256)) == (
        384,
        True,
        False,
        True,
    )


def test_what_was_unlearned_is_counted_once_if_it_goes_back_twice(lethe: Lethe, tmp_path: Path) -> None:
    fill(tmp_path)
    go_back(lethe, tmp_path, "--to", "192")
    said = go_back(lethe, tmp_path, "--to", "64")
    assert said[1].startswith("unlearned: 128 samples")
    receipts = [entry.receipt for entry in read_entries(tmp_path / LEDGER)]
    assert [receipt.erased for receipt in receipts if receipt.kind == "restoration"] == [64, 128]
    passed_audit(tmp_path)


def test_a_rollback_with_its_position_undoes_it(lethe: Lethe, tmp_path: Path) -> None:
    fill(tmp_path)
    go_back(lethe, tmp_path, "--to", "128")
    assert lethe("checkpoint", "rollback", str(tmp_path), "--to", "64").code == 0
    questions = {finding.question for finding in passed_audit(tmp_path).findings}
    assert "What was unlearned otherwise?" not in questions


def test_the_receipt_is_in_the_checkpoint_if_the_ledger_cannot_be_written(
    lethe: Lethe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    with unwritable_ledger(tmp_path, monkeypatch):
        arguments = ("checkpoint", "rollback", str(tmp_path), "--keep-position")
        assert "No space left" in lethe.refuses(*arguments)
    found = newest(tmp_path)
    assert (found.samples, found.learner.values) == (256, {"seen": 192})
    open_ledger(tmp_path, found)  # as the next start does
    assert [entry.receipt.kind for entry in read_entries(tmp_path / LEDGER)][-1] == "restoration"


def test_a_sample_that_is_unlearned_has_no_regime_to_be_forgotten_from(lethe: Lethe, tmp_path: Path) -> None:
    fill(tmp_path)
    with StateFolder(tmp_path, 10) as state:
        ledger = open_ledger(tmp_path, newest(tmp_path))
        regimes = (RegimeSpan(0, 0, 256, 320),)
        ledger.add(replace(RECEIPT, spans=(Span(0, 256, 320),), regimes=regimes, received=64, learned=64))
        state.write(taken(320, ledger, "finetune"))
        ledger.force(ledger.mark)
    assert regimes_at(receipts_of(tmp_path, newest(tmp_path)), [(0, 300)]) == [0]
    go_back(lethe, tmp_path)
    with pytest.raises(NeverLearned, match="at offset 300 of partition 0 is unlearned"):
        regimes_at(receipts_of(tmp_path, newest(tmp_path)), [(0, 300)])


REFUSED = [
    (["--to", "100"], "holds no checkpoint 100: it holds those of 64, 128, 192, 256 samples"),
    (["--to", "256"], "is not older than the newest checkpoint, of 256 samples"),
    (["--option", "lr=0.1"], "with --keep-position the learner keeps its options"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSED, ids=lambda case: str(case)[:40])
def test_what_cannot_be_done_is_rejected_in_one_line_and_changes_nothing(
    lethe: Lethe, tmp_path: Path, arguments: list[str], said: str
) -> None:
    fill(tmp_path)
    assert_refused(lethe, tmp_path, said, "--keep-position", *arguments)


def test_a_folder_without_an_older_checkpoint_is_rejected(lethe: Lethe, tmp_path: Path) -> None:
    fill(tmp_path, batches=1)
    assert_refused(
        lethe, tmp_path, "holds no older checkpoint: it holds those of 64 samples", "--keep-position"
    )


def test_a_folder_that_a_service_uses_is_rejected(lethe: Lethe, tmp_path: Path) -> None:
    fill(tmp_path)
    with StateFolder(tmp_path, 10):
        said = lethe.refuses("checkpoint", "rollback", str(tmp_path), "--keep-position")
        assert "is in use by another service" in said


def test_a_learner_of_other_settings_is_rejected_with_each_difference(lethe: Lethe, tmp_path: Path) -> None:
    fill(tmp_path)
    with StateFolder(tmp_path, 10) as state:
        found = newest(tmp_path)
        changed = {**found.fingerprint, "learner.options.lr": 0.5, "learner.seed": 1}
        state.write(replace(found, fingerprint=changed))
    said = ["learner.options.lr was 0.001, is 0.5", "learner.seed was 0, is 1"]
    assert_refused(lethe, tmp_path, "; ".join(said), "--keep-position", "--to", "128")


TAKEN_BACK = [
    (replace(RECEIPT, kind="erasure", erased=3), "3 samples that were erased on request since"),
    (replace(RECEIPT, kind="subtraction", erased=9), "9 samples that were erased on request since"),
    (replace(RECEIPT, kind="recreation"), "the topic was created again after"),
    (
        replace(RECEIPT, kind="restoration", spans=(Span(0, 64, 128),), erased=64, back_to=1),
        "holds samples that an earlier `lethe checkpoint rollback` unlearned",
    ),
    (
        replace(RECEIPT, kind="rollback", spans=(Span(0, 64, 128),), back_to=1),
        "holds samples that an earlier `lethe checkpoint rollback` unlearned",
    ),
]


@pytest.mark.parametrize(("receipt", "said"), TAKEN_BACK, ids=lambda case: getattr(case, "kind", None))
def test_what_must_not_come_back_is_rejected_with_a_reason(
    lethe: Lethe, tmp_path: Path, receipt: Receipt, said: str
) -> None:
    fill(tmp_path, after=[receipt])
    assert_refused(lethe, tmp_path, said, "--keep-position", "--to", "128")


def test_records_that_were_purged_block_nothing(lethe: Lethe, tmp_path: Path) -> None:
    fill(tmp_path, after=[replace(RECEIPT, kind="purge", spans=(Span(0, 0, 128),))])
    go_back(lethe, tmp_path, "--to", "64")


@pytest.mark.parametrize("learner", ["dp-finetune", "dp-ridge"])
def test_a_private_learner_spends_nothing_twice(lethe: Lethe, tmp_path: Path, learner: str) -> None:
    fill(tmp_path, learner=learner)
    assert_refused(lethe, tmp_path, f"learner {learner} is differentially private", "--keep-position")


def test_samples_with_a_time_to_live_do_not_come_back(lethe: Lethe, tmp_path: Path) -> None:
    fill(tmp_path, learner="replay", kept={"arrived": [], "on_disk": []})
    assert_refused(
        lethe, tmp_path, "learner replay keeps samples, whose time the policy limits", "--keep-position"
    )


def test_samples_without_a_time_to_live_may(lethe: Lethe, tmp_path: Path) -> None:
    fill(tmp_path, learner="replay")
    go_back(lethe, tmp_path)
    assert newest(tmp_path).learner.values == {"seen": 192}


def test_a_checkpoint_of_another_ledger_is_rejected(lethe: Lethe, tmp_path: Path) -> None:
    fill(tmp_path)
    with StateFolder(tmp_path, 10) as state:
        found = newest(tmp_path)
        odd = cast("dict[str, Any]", read_checkpoint(checkpoint_files(tmp_path)[0]).ledger)
        checkpoint_files(tmp_path)[0].unlink()
        strange = replace(taken(32, Ledger(tmp_path / "none"), "finetune"), ledger=odd | {"head": "0" * 64})
        state.write(strange)
        state.write(found)
    assert_refused(lethe, tmp_path, "is not of the ledger in", "--keep-position", "--to", "32")
