"""``lethe checkpoint rollback`` returns to an older checkpoint, with other options, and adds a receipt."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from lethe.checkpointing.checkpoint import Checkpoint, read_checkpoint, read_samples
from lethe.checkpointing.state_folder import StateFolder, checkpoint_files, leftover_checkpoints
from lethe.learners.state import State
from lethe.privacy.audit.evidence import checkpoint_totals
from lethe.privacy.audit.ledger import Ledger, read_entries
from lethe.privacy.audit.receipt import Receipt, Span
from lethe.privacy.audit.receipt_writer import LEDGER
from lethe.stream.source import Position
from tests.support.checkpoints import checkpoint, newest
from tests.support.commands import Lethe
from tests.support.ledgers import passed_audit
from tests.support.rollbacks import (
    DIGEST,
    RECEIPT,
    about,
    assert_refused,
    fingerprint,
    unwritable_ledger,
    write_states,
)


def taken(samples: int, ledger: Ledger, learner: str, weight: Tensor) -> Checkpoint:
    tensors = {"model.0.weight": weight, "optimizer.0.weight.exp_avg": weight}
    tensors |= {"optimizer.generator.0.weight.exp_avg": weight}
    return replace(
        checkpoint(samples),
        fingerprint=fingerprint(learner),
        learner=State(tensors, {"seen": samples}),
        ledger=about(ledger),
    )


def fill(
    folder: Path,
    batches: int = 4,
    after: Sequence[Receipt] = (),
    learner: str = "finetune",
    spoilt_from: int = 10**9,
) -> None:
    """`write_states`, where weights are NaN from a batch on."""

    def take(samples: int, ledger: Ledger) -> Checkpoint:
        number = samples // 64
        weight = torch.full((2,), math.nan if number >= spoilt_from else float(number))
        return taken(samples, ledger, learner, weight)

    write_states(folder, take, batches, after)


def samples_in(folder: Path) -> list[int]:
    return [read_samples(path) for path in checkpoint_files(folder)]


@pytest.mark.parametrize("to", ["128", "1,28", "checkpoint-000000000002.safetensors", "{folder}/{file}"])
def test_it_goes_back_to_a_checkpoint_by_its_samples_or_its_file(
    lethe: Lethe, tmp_path: Path, to: str
) -> None:
    fill(tmp_path)
    to = to.format(folder=tmp_path, file="checkpoint-000000000002.safetensors")
    before = read_checkpoint(checkpoint_files(tmp_path)[1])
    done = lethe("checkpoint", "rollback", str(tmp_path), "--to", to)
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{tmp_path}/checkpoint-000000000005.safetensors resumes after 128 samples",
        f"unlearned: 128 samples; moved newer checkpoints to {leftover_checkpoints(tmp_path)[0].parent}",
    ]
    after = newest(tmp_path)
    assert (after.digest, after.position, after.fingerprint) == (
        before.digest,
        before.position,
        before.fingerprint,
    )
    assert samples_in(tmp_path) == [64, 128, 128]
    assert [read_samples(path) for path in leftover_checkpoints(tmp_path)] == [192, 256]


def test_the_ledger_has_a_receipt_and_an_audit_passes_before_and_after_the_records_come_again(
    lethe: Lethe, tmp_path: Path
) -> None:
    fill(tmp_path)
    lethe("checkpoint", "rollback", str(tmp_path), "--to", "128")
    entries = list(read_entries(tmp_path / LEDGER))
    receipt = entries[-1].receipt
    assert (receipt.kind, receipt.spans) == ("rollback", (Span(0, 128, 256),))
    assert (receipt.retention, receipt.policy, receipt.topic) == ("nothing", DIGEST, "images")
    kept = cast("dict[str, Any]", newest(tmp_path).ledger)
    passed_audit(tmp_path)
    ledger = Ledger(tmp_path / LEDGER, entries[-1].mark, kept["pending"])
    ledger.add(replace(RECEIPT, spans=(Span(0, 128, 192),), received=64, learned=64))
    ledger.force(ledger.mark)
    passed_audit(tmp_path)


def test_the_receipt_is_in_the_checkpoint_if_the_ledger_cannot_be_written(
    lethe: Lethe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    with unwritable_ledger(tmp_path, monkeypatch):
        assert "No space left" in lethe.refuses("checkpoint", "rollback", str(tmp_path), "--to", "128")
    found = newest(tmp_path)
    assert found.samples == 128
    kept = cast("dict[str, Any]", found.ledger)
    stands = checkpoint_totals(tmp_path)
    assert stands is not None
    Ledger(tmp_path / LEDGER, stands.mark, kept["pending"])  # as the next start does
    assert [entry.receipt.kind for entry in read_entries(tmp_path / LEDGER)][-1] == "rollback"


def test_other_options_are_taken_from_there_on(lethe: Lethe, tmp_path: Path) -> None:
    fill(tmp_path)
    done = lethe("checkpoint", "rollback", str(tmp_path), "--option", "lr=1e-05")
    assert done.code == 0
    assert done.stdout.splitlines() == [
        f"{tmp_path}/checkpoint-000000000005.safetensors resumes after 256 samples",
        "learner.options.lr: 0.001 → 1e-05",
        "start the service with --option lr=1e-05",
    ]
    assert newest(tmp_path).fingerprint["learner.options.lr"] == 1e-05
    assert newest(tmp_path).digest == read_checkpoint(checkpoint_files(tmp_path)[-2]).digest
    assert [entry.receipt.kind for entry in read_entries(tmp_path / LEDGER)] == ["batch"] * 4


def test_another_optimizer_remembers_nothing_of_the_one_before(lethe: Lethe, tmp_path: Path) -> None:
    fill(tmp_path)
    lethe("checkpoint", "rollback", str(tmp_path), "--option", "optimizer=SGD", "--to", "192")
    names = newest(tmp_path).learner.tensors.keys()
    assert names == {"model.0.weight", "optimizer.generator.0.weight.exp_avg"}


def test_without_a_name_it_is_the_newest_that_is_finite(lethe: Lethe, tmp_path: Path) -> None:
    fill(tmp_path, spoilt_from=3)
    done = lethe("checkpoint", "rollback", str(tmp_path))
    assert done.code == 0
    assert newest(tmp_path).samples == 128
    assert [read_samples(path) for path in leftover_checkpoints(tmp_path)] == [192, 256]


REFUSED = [
    (["--to", "100"], "holds no checkpoint 100: it holds those of 64, 128, 192, 256 samples"),
    (["--to", "/elsewhere/checkpoint-000000000002.safetensors"], "holds no checkpoint /elsewhere"),
    ([], "is the newest checkpoint and no option changes: --option NAME=VALUE changes one, --to goes"),
    (["--option", "lr=0.001"], "no option changes"),
    (["--option", "rate=1"], "learner.options.rate: no such option"),
    (["--option", "lr=fast"], "learner.options.lr: Input should be a valid number"),
    (["--option", "lr"], "--option: 'lr' is not NAME=VALUE"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSED, ids=lambda case: str(case)[:40])
def test_what_cannot_be_done_is_rejected_in_one_line_and_changes_nothing(
    lethe: Lethe, tmp_path: Path, arguments: list[str], said: str
) -> None:
    fill(tmp_path)
    assert_refused(lethe, tmp_path, said, *arguments)


def test_a_folder_without_checkpoints_is_rejected(lethe: Lethe, tmp_path: Path) -> None:
    said = lethe.refuses("checkpoint", "rollback", str(tmp_path))
    assert said == f"lethe: {tmp_path} holds no checkpoints"


def test_a_folder_that_a_service_uses_is_rejected(lethe: Lethe, tmp_path: Path) -> None:
    fill(tmp_path)
    with StateFolder(tmp_path, 3):
        assert "is in use by another service" in lethe.refuses("checkpoint", "rollback", str(tmp_path))


TAKEN_BACK = [
    (replace(RECEIPT, kind="erasure", erased=3), "3 samples that were erased on request since"),
    (
        replace(RECEIPT, kind="purge", spans=(Span(0, 0, 192),)),
        "under a policy that purges, a run cannot go back",
    ),
    (replace(RECEIPT, kind="recreation"), "the topic was created again after"),
]


@pytest.mark.parametrize(("receipt", "said"), TAKEN_BACK, ids=lambda case: getattr(case, "kind", None))
def test_what_must_not_be_undone_is_rejected_with_a_reason(
    lethe: Lethe, tmp_path: Path, receipt: Receipt, said: str
) -> None:
    fill(tmp_path, after=[receipt])
    assert_refused(lethe, tmp_path, said, "--to", "128")


def test_records_that_were_purged_before_the_checkpoint_block_nothing(lethe: Lethe, tmp_path: Path) -> None:
    fill(tmp_path, after=[replace(RECEIPT, kind="purge", spans=(Span(0, 0, 128),))])
    assert lethe("checkpoint", "rollback", str(tmp_path), "--to", "128").code == 0


@pytest.mark.parametrize("learner", ["dp-finetune", "dp-ridge"])
def test_what_a_private_learner_released_is_not_taken_back(
    lethe: Lethe, tmp_path: Path, learner: str
) -> None:
    fill(tmp_path, learner=learner)
    assert_refused(lethe, tmp_path, f"learner {learner} is differentially private", "--to", "128")


def test_the_code_of_another_package_runs_only_if_it_is_named(lethe: Lethe, tmp_path: Path) -> None:
    fill(tmp_path)
    with StateFolder(tmp_path, 10) as state:
        other = newest(tmp_path)
        state.write(replace(other, fingerprint={**other.fingerprint, "learner.name": "styx"}))
    assert_refused(lethe, tmp_path, "was written by learner 'styx' of another package", "--option", "lr=1")


def test_a_position_of_several_partitions_goes_back_in_each(lethe: Lethe, tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=10) as state:
        ledger = Ledger(tmp_path / LEDGER)
        for number in range(1, 4):
            begin, end = 32 * (number - 1), 32 * number
            spans = (Span(0, begin, end), Span(1, begin, end))
            ledger.add(replace(RECEIPT, spans=spans, received=64, learned=64))
            made = taken(64 * number, ledger, "finetune", torch.ones(2))
            state.write(replace(made, position=Position({0: end, 1: end}, 0, "topic")))
            ledger.force(ledger.mark)
    lethe("checkpoint", "rollback", str(tmp_path), "--to", "64")
    entries = list(read_entries(tmp_path / LEDGER))
    assert entries[-1].receipt.spans == (Span(0, 32, 96), Span(1, 32, 96))
    assert newest(tmp_path).position.offsets == {0: 32, 1: 32}
    passed_audit(tmp_path)
