"""Merged and subtracted states: the same bits as one service that learned all, or only the rest."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from lethe.checkpointing.checkpoint import load_learner
from lethe.checkpointing.state_folder import StateFolder, checkpoint_files
from lethe.cli.main import app
from lethe.errors import InvalidFile, InvalidSetting
from lethe.learners.base import Learner
from lethe.learners.state import JSON
from lethe.privacy.audit.evidence import checkpoint_totals
from lethe.privacy.audit.ledger import read_entries
from lethe.privacy.audit.receipt import AddedState, Receipt, Span
from lethe.privacy.audit.receipt_writer import LEDGER
from lethe.privacy.audit.verify import audit
from lethe.privacy.merge import merge_states
from lethe.privacy.policy import Policy
from lethe.privacy.stored_learner import sums_digest
from lethe.privacy.subtract import subtract_state
from lethe.privacy.unlearn import forget
from tests.support.checkpoints import newest
from tests.support.ledgers import passed_audit
from tests.support.states import CONTEXTS, WARD, images, learned, new_learner, service_state

X, Y = images(240)


def learner_in(folder: Path, name: str) -> Learner:
    learner = new_learner(name)
    load_learner(learner, newest(folder))
    return learner


def receipts(folder: Path) -> list[Receipt]:
    return [entry.receipt for entry in read_entries(folder / LEDGER)]


def two(tmp_path: Path, name: str = "ridge") -> tuple[Path, Path]:
    """The states of two services, of 80 and 160 samples, that read a partition each."""
    world: list[dict[str, dict[str, JSON]]] = [{"stream": {"rank": rank, "world": 2}} for rank in range(2)]
    first = service_state(tmp_path / "first", X[:80], Y[:80], name, settings=world[0])
    second = service_state(tmp_path / "second", X[80:], Y[80:], name, partition=1, settings=world[1])
    return first, second


@pytest.mark.parametrize("name", CONTEXTS)
def test_a_merged_state_has_the_hash_of_one_service_that_learned_all(name: str, tmp_path: Path) -> None:
    first, second = two(tmp_path, name)
    one, other = tmp_path / "one", tmp_path / "other"
    done = merge_states([first, second], one)
    assert (done.learner, done.samples, done.checkpoint) == (name, 240, checkpoint_files(one)[-1])
    everything = learned(name, X, Y)
    assert done.sums == sums_digest(everything) == sums_digest(learner_in(one, name))
    assert merge_states([second, first], other).sums == done.sums
    unseen, _ = images(40, seed=1)
    torch.testing.assert_close(learner_in(one, name).predict_proba(unseen), everything.predict_proba(unseen))


def test_four_parts_in_two_steps_have_the_hash_of_one_service(tmp_path: Path) -> None:
    parts = [
        service_state(tmp_path / str(part), X[60 * part :][:60], Y[60 * part :][:60], partition=part)
        for part in range(4)
    ]
    merge_states(parts[:2], tmp_path / "a")
    merge_states(parts[2:], tmp_path / "b")
    done = merge_states([tmp_path / "a", tmp_path / "b"], tmp_path / "all")
    assert done.sums == sums_digest(learned("ridge", X, Y))
    assert newest(tmp_path / "all").position.offsets == dict.fromkeys(range(4), 60)
    passed_audit(tmp_path / "all", WARD)


def test_a_merged_state_continues_where_both_ended_as_one_service_of_all_partitions(tmp_path: Path) -> None:
    first, second = two(tmp_path)
    merge_states([first, second], tmp_path / "out")
    merged = newest(tmp_path / "out")
    assert (merged.position.offsets, merged.position.topic_id) == ({0: 80, 1: 160}, "id")
    alone = {**newest(first).fingerprint, "stream.rank": 0, "stream.world": 1}
    assert (merged.fingerprint, merged.samples) == (alone, 240)
    counts = {"received": 240, "learned": 240, "dead": {}, "lost": 0}
    assert isinstance(merged.counts, dict)
    assert counts.items() <= merged.counts.items()


def test_states_of_one_partition_are_merged_if_one_continues_the_other(tmp_path: Path) -> None:
    first = service_state(tmp_path / "first", X[:80], Y[:80])
    second = service_state(tmp_path / "second", X[80:], Y[80:], first=80)
    merge_states([second, first], tmp_path / "out")
    assert newest(tmp_path / "out").position.offsets == {0: 240}
    assert receipts(tmp_path / "out")[0].spans == (Span(0, 0, 240),)


def test_the_new_ledger_begins_with_the_sums_and_heads_of_the_merged_states(tmp_path: Path) -> None:
    first, second = two(tmp_path)
    heads = [list(read_entries(folder / LEDGER))[-1].mark for folder in (first, second)]
    done = merge_states([first, second], tmp_path / "out")
    sums = [sums_digest(learned("ridge", X[:80], Y[:80])), sums_digest(learned("ridge", X[80:], Y[80:]))]
    (receipt,) = receipts(tmp_path / "out")
    assert receipt.states == tuple(
        AddedState(digest, mark.sequence, mark.head) for digest, mark in zip(sums, heads, strict=True)
    )
    assert (receipt.kind, receipt.sums_after, receipt.policy) == ("merge", done.sums, WARD.digest)
    assert receipt.spans == (Span(0, 0, 80), Span(1, 0, 160))
    assert (receipt.received, receipt.learned) == (240, 240)
    verdict = passed_audit(tmp_path / "out", WARD)
    (where,) = [finding.answer for finding in verdict.findings if "before the merge" in finding.question]
    assert all(f"{mark.sequence}:{mark.head}" in where for mark in heads)


def test_states_learned_under_different_policies_are_under_none_together(tmp_path: Path) -> None:
    first, _ = two(tmp_path)
    lenient = Policy.model_validate({"name": "lenient", "retention": "statistics", "residency_seconds": 60})
    other = service_state(tmp_path / "other", X[80:], Y[80:], partition=1, policy=lenient)
    merge_states([first, other], tmp_path / "out")
    assert receipts(tmp_path / "out")[0].policy is None
    out = tmp_path / "out"
    assert not audit(read_entries(out / LEDGER), WARD, checkpoint_totals(out)).passed


def test_a_record_in_two_states_is_refused_by_topic_partition_and_offsets(tmp_path: Path) -> None:
    first = service_state(tmp_path / "first", X[:120], Y[:120])
    second = service_state(tmp_path / "second", X[80:], Y[80:], first=80)
    with pytest.raises(
        InvalidSetting, match=r"topic images, partition 0: offsets 80 to 119 .*/first and by .*second"
    ):
        merge_states([first, second], tmp_path / "out")
    with pytest.raises(InvalidSetting, match="offsets 0 to 119 were learned by"):
        merge_states([first, first], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_records_that_neither_has_learned_between_theirs_are_refused(tmp_path: Path) -> None:
    first = service_state(tmp_path / "first", X[:80], Y[:80])
    second = service_state(tmp_path / "second", X[80:], Y[80:], first=100)
    with pytest.raises(InvalidSetting, match="partition 0: offsets 80 to 99 lie between"):
        merge_states([first, second], tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "settings", "named"),
    [
        ("ncm", {}, r"learner\.name is ridge in .*first, ncm in .*other; learner\.options"),
        (
            "ridge",
            {"learner": {"options": {"waves": 150, "penalty": 1.0}}},
            r"learner\.options\.penalty is 0\.3",
        ),
        ("ridge", {"learner": {"seed": 1}}, r"learner\.seed is 0 in .*, 1 in"),
        ("ridge", {"sample": {"height": 8, "width": 9, "classes": 4}}, r"sample\.width is 8 in .*, 9 in"),
        ("ridge", {"stream": {"topic": "photos"}}, r"stream\.topic is images in .*, photos in"),
    ],
)
def test_sums_that_do_not_mean_the_same_are_refused_by_the_setting(
    name: str, settings: Mapping[str, Mapping[str, JSON]], named: str, tmp_path: Path
) -> None:
    first, _ = two(tmp_path)
    x_NCHW = torch.zeros(40, 1, 8, 9, dtype=torch.uint8) if "sample" in settings else X[:40]
    other = service_state(tmp_path / "other", x_NCHW, Y[:40], name, partition=2, settings=settings)
    with pytest.raises(InvalidSetting, match=named):
        merge_states([first, other], tmp_path / "out")


def test_a_topic_created_again_is_another_topic(tmp_path: Path) -> None:
    first, _ = two(tmp_path)
    other = service_state(tmp_path / "other", X[80:], Y[80:], partition=1, topic_id="new")
    with pytest.raises(InvalidSetting, match="the broker's ids are id and new"):
        merge_states([first, other], tmp_path / "out")


def test_what_cannot_be_merged_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    first, second = two(tmp_path)
    with pytest.raises(InvalidSetting, match="needs two states or more"):
        merge_states([first], tmp_path / "out")
    with pytest.raises(InvalidFile, match="holds no checkpoints"):
        merge_states([first, tmp_path / "none"], tmp_path / "out")
    with pytest.raises(InvalidSetting, match="holds a state already"):
        merge_states([first, second], second)
    with StateFolder(second, keep=3), pytest.raises(InvalidSetting, match="in use by another"):
        merge_states([first, second], tmp_path / "out")
    ledger = second / LEDGER
    ledger.write_text(ledger.read_text().replace('"learned":40', '"learned":41', 1))
    with pytest.raises(InvalidFile, match="receipt 1"):
        merge_states([first, second], tmp_path / "out")
    assert not checkpoint_files(tmp_path / "out")


def test_a_checkpoint_that_counts_otherwise_than_its_ledger_is_refused(tmp_path: Path) -> None:
    first, second = two(tmp_path)
    made = newest(second)
    assert isinstance(made.counts, dict)
    with StateFolder(second, keep=1) as folder:
        folder.write(replace(made, counts={**made.counts, "learned": 161}))
    with pytest.raises(InvalidFile, match="the ledger counts 160 samples of 160 records, the checkpoint 161"):
        merge_states([first, second], tmp_path / "out")


def test_a_state_that_is_subtracted_leaves_the_hash_of_the_other(tmp_path: Path) -> None:
    first, second = two(tmp_path)
    merge_states([first, second], tmp_path / "both")
    done = subtract_state(tmp_path / "both", second, tmp_path / "out")
    left = learned("ridge", X[:80], Y[:80])
    assert (done.samples, done.sums) == (160, sums_digest(left))
    unseen, _ = images(40, seed=1)
    torch.testing.assert_close(
        learner_in(tmp_path / "out", "ridge").predict_proba(unseen), left.predict_proba(unseen)
    )


def test_what_was_subtracted_is_not_read_again_and_stays_in_the_ledger(tmp_path: Path) -> None:
    first, second = two(tmp_path)
    merge_states([first, second], tmp_path / "both")
    done = subtract_state(tmp_path / "both", second, tmp_path / "out")
    merged, receipt = receipts(tmp_path / "out")
    assert [merged] == receipts(tmp_path / "both")
    assert (receipt.kind, receipt.spans, receipt.erased) == ("subtraction", (Span(1, 0, 160),), 160)
    assert (receipt.sums_before, receipt.sums_after) == (merged.sums_after, done.sums)
    assert receipt.states == (merged.states[1],)
    assert newest(tmp_path / "out").position == newest(tmp_path / "both").position
    assert newest(tmp_path / "out").samples == 240
    passed_audit(tmp_path / "out", WARD)
    with pytest.raises(InvalidSetting, match=r"offsets 0 to 159 were subtracted from .*out before"):
        subtract_state(tmp_path / "out", second, tmp_path / "again")
    with pytest.raises(InvalidSetting, match="is what a subtraction or an older learner left"):
        merge_states([tmp_path / "out", second], tmp_path / "again")


def test_what_was_not_learned_cannot_be_subtracted(tmp_path: Path) -> None:
    first, second = two(tmp_path)
    with pytest.raises(
        InvalidSetting, match=r"partition 1: .*second has learned offsets 0 to 159, .*first none"
    ):
        subtract_state(first, second, tmp_path / "out")
    longer = service_state(tmp_path / "longer", X[:120], Y[:120])
    with pytest.raises(InvalidSetting, match=r"offsets 0 to 119, .*first those from 0 to 79"):
        subtract_state(first, longer, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def forgotten(folder: Path, x_NCHW: Tensor, y_N: Tensor) -> None:
    samples = folder.with_suffix(".npz")
    np.savez(samples, x=x_NCHW.numpy(), y=y_N.numpy())
    forget(folder, [samples], None, drop_older=True, trust_labels=True)


def test_erased_samples_are_not_subtracted_a_second_time(tmp_path: Path) -> None:
    first, second = two(tmp_path)
    merge_states([first, second], tmp_path / "both")
    forgotten(tmp_path / "both", X[80:83], Y[80:83])
    with pytest.raises(InvalidSetting, match=r"3 samples were erased .* --trust-erasures"):
        subtract_state(tmp_path / "both", second, tmp_path / "out")
    forgotten(second, X[80:83], Y[80:83])
    done = subtract_state(tmp_path / "both", second, tmp_path / "out", trust_erasures=True)
    assert (done.samples, done.sums) == (157, sums_digest(learned("ridge", X[:80], Y[:80])))
    passed_audit(tmp_path / "out", WARD)


def test_a_merge_of_states_with_erased_samples_counts_them(tmp_path: Path) -> None:
    first, second = two(tmp_path)
    forgotten(second, X[80:83], Y[80:83])
    merge_states([first, second], tmp_path / "out")
    assert receipts(tmp_path / "out")[0].erased == 3
    passed_audit(tmp_path / "out", WARD)


def printed(*arguments: Path | str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_the_commands_print_what_they_wrote(tmp_path: Path) -> None:
    first, second = two(tmp_path)
    merged = printed("merge", first, second, "--out", tmp_path / "both")
    (written,) = checkpoint_files(tmp_path / "both")
    sums = sums_digest(learned("ridge", X, Y))
    assert merged == {"learner": "ridge", "samples": 240, "checkpoint": str(written), "sums": sums}
    left = printed("subtract", tmp_path / "both", first, "--out", tmp_path / "left")
    assert (left["samples"], left["sums"]) == (80, sums_digest(learned("ridge", X[80:], Y[80:])))
    done = CliRunner().invoke(app, ["merge", str(first), str(second), "--out", str(tmp_path / "text")])
    assert "ridge of 240 samples" in done.stdout
    assert sums in done.stdout
    done = CliRunner().invoke(
        app, ["subtract", str(tmp_path / "both"), str(first), "--out", str(tmp_path / "t")]
    )
    assert "ridge has unlearned 80 samples" in done.stdout


def test_a_learner_without_sums_cannot_be_merged(tmp_path: Path) -> None:
    first, second = two(tmp_path)
    for folder in (first, second):
        made = newest(folder)
        with StateFolder(folder, keep=1) as state:
            state.write(replace(made, fingerprint={**made.fingerprint, "learner.name": "finetune"}))
    with pytest.raises(InvalidSetting, match="learner finetune has no exact sums: its state is not a sum"):
        merge_states([first, second], tmp_path / "out")
