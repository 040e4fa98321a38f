"""Forgetting on demand: a sample that is shown again leaves no trace in what was learned."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from typer.testing import CliRunner

from service.batching import Filled
from service.checkpoint import read_checkpoint
from service.cli import app
from service.errors import InvalidFile, InvalidSetting, NeverLearned
from service.learners import LEARNERS, create
from service.learners.base import JSON, Learner, LearnerContext, Retention
from service.learners.ncm import NCM
from service.learners.ridge import Ridge
from service.learners.slda import SLDA
from service.learners.unlearning import Unlearns
from service.privacy.audit import audit
from service.privacy.evidence import newest_mark
from service.privacy.forget import forget
from service.privacy.ledger import Receipt, read_entries
from service.privacy.policy import Policy
from service.privacy.receipts import LEDGER, Receipts, open_receipts
from service.privacy.samples import read_samples
from service.resume import fingerprint
from service.settings import Settings
from service.state_folder import StateFolder, checkpoint_files
from service.stream.source import Position
from service.wire import PNG, Layout, Sample, encode
from tests.checkpoints import checkpoint

LAYOUT = Layout(height=8, width=8, classes=4)
RIDGE: dict[str, JSON] = {"waves": 50, "first_refresh": 16}
CONTEXT = LearnerContext(LAYOUT, options=RIDGE)
POLICY = Policy(name="ward", retention=Retention.STATISTICS)


def images(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_BCHW = torch.randint(256, (count, *LAYOUT.shape), dtype=torch.uint8, generator=generator)
    return x_BCHW, torch.randint(LAYOUT.classes, (count,), generator=generator)


KINDS: dict[str, tuple[type[Learner], dict[str, JSON]]] = {
    "ridge": (Ridge, RIDGE),
    "slda": (SLDA, {"waves": 50, "first_refresh": 16, "shrinkage": 0.1}),
    "ncm": (NCM, {"waves": 50}),
}


def learned(learner: Learner, x_BCHW: Tensor, y_B: Tensor, batch: int = 16) -> Learner:
    for x, y in zip(torch.split(x_BCHW, batch), torch.split(y_B, batch), strict=True):
        learner.learn(x, y)
    return learner


@settings(deadline=None, max_examples=6)
@given(seed=st.integers(0, 1000), batch=st.sampled_from([8, 40]), batches=st.integers(1, 2))
def test_ridge_forgets_as_if_it_had_never_seen(seed: int, batch: int, batches: int) -> None:
    x_BCHW, y_B = images(240, seed)
    gone = batch * batches
    ridge, never = Ridge(CONTEXT), Ridge(CONTEXT)
    learned(ridge, x_BCHW, y_B, batch)
    learned(never, x_BCHW[gone:], y_B[gone:], batch)
    ridge.unlearn(x_BCHW[:gone], y_B[:gone], batch)
    A, A_never = ridge._gram.upper().triu(), never._gram.upper().triu()
    torch.testing.assert_close(A, A_never, atol=1e-4, rtol=1e-6)  # of sums around 500
    mine, theirs = ridge.state().tensors, never.state().tensors
    torch.testing.assert_close(mine["B"], theirs["B"], atol=1e-4, rtol=1e-5)
    assert mine["counts"][0] == theirs["counts"][0] == 240 - gone
    unseen, _ = images(40, seed + 1)
    torch.testing.assert_close(ridge.predict(unseen), never.predict(unseen), atol=2e-3, rtol=1e-2)
    exact = ridge._gram.solve(ridge.state().tensors["B"], 0.3)
    torch.testing.assert_close(mine["W"], exact)  # what it predicts from while it learns forgot them, too


@pytest.mark.parametrize("name", KINDS)
def test_every_learner_of_sums_forgets_as_if_it_had_never_seen(name: str) -> None:
    kind, options = KINDS[name]
    x_BCHW, y_B = images(240, seed=3)
    context = LearnerContext(LAYOUT, options=options)
    one, never = learned(kind(context), x_BCHW, y_B), learned(kind(context), x_BCHW[32:], y_B[32:])
    assert isinstance(one, Unlearns)
    one.unlearn(x_BCHW[:32], y_B[:32], 16)
    mine, theirs = one.state().tensors, never.state().tensors
    for sums in {"B", "sums", "class_counts"} & set(theirs):
        torch.testing.assert_close(mine[sums], theirs[sums], atol=1e-4, rtol=1e-5)
    x_unseen, y_unseen = images(40, seed=4)
    p_BK = one.predict(x_unseen)
    torch.testing.assert_close(p_BK, never.predict(x_unseen), atol=2e-3, rtol=1e-2)
    assert torch.equal(one.learn(x_unseen, y_unseen).predicted_B, p_BK.argmax(1))  # learning forgot it, too


@pytest.mark.parametrize("name", KINDS)
def test_all_of_a_class_can_be_forgotten(name: str) -> None:
    kind, options = KINDS[name]
    x_BCHW, y_B = images(200)
    learner = learned(kind(LearnerContext(LAYOUT, options=options)), x_BCHW, y_B)
    assert isinstance(learner, Unlearns)
    learner.unlearn(x_BCHW[y_B == 2], y_B[y_B == 2], 16)
    assert not (learner.predict(x_BCHW).argmax(1) == 2).any()


@pytest.mark.parametrize("name", KINDS)
def test_what_cannot_have_been_learned_is_refused_and_nothing_changes(name: str) -> None:
    kind, options = KINDS[name]
    x_BCHW, y_B = images(40)
    ridge = learned(kind(LearnerContext(LAYOUT, options=options)), x_BCHW, y_B)
    assert isinstance(ridge, Unlearns)
    before = {name: tensor.clone() for name, tensor in ridge.state().tensors.items()}
    ones = int((y_B == 1).sum())
    twice = torch.cat([x_BCHW[y_B == 1], x_BCHW[:1]]), torch.ones(ones + 1, dtype=torch.int64)
    with pytest.raises(NeverLearned, match=f"{ones + 1} samples of class 1 are to be forgotten, {ones} were"):
        ridge.unlearn(*twice, 16)
    stranger = images(1, seed=9)[0]
    if name != "ncm":  # which keeps means alone
        with pytest.raises(NeverLearned, match="their leverage is above 1"):
            ridge.unlearn(stranger, y_B[:1], 16)
    assert all(torch.equal(tensor, before[name]) for name, tensor in ridge.state().tensors.items())


def state_folder(path: Path, name: str = "ridge", older: int = 2) -> tuple[Tensor, Tensor]:
    """A folder of a service that learned 120 samples, one checkpoint, and one receipt, after each 40."""
    options: Any = RIDGE if name == "ridge" else {}
    given = Settings.read({"learner": {"name": name, "options": options}, "sample": LAYOUT.model_dump()})
    learner = create(name, LearnerContext(LAYOUT, options=options))
    x_BCHW, y_B = images(120)
    with StateFolder(path, keep=10) as folder:
        receipts = open_receipts(folder, "images", learner.retains, POLICY, None)
        assert receipts is not None
        for part in range(older + 1):
            learned(learner, x_BCHW[40 * part : 40 * part + 40], y_B[40 * part : 40 * part + 40], 40)
            receipts.discarded(filled(40 * part), time.time(), 40 * part + 40)
            made = replace(checkpoint(40 * part + 40), fingerprint=fingerprint(given))
            made = replace(made, learner=learner.state(), ledger=receipts.snapshot())
            folder.write(made)
            receipts.on_disk(made)
    return x_BCHW, y_B


def filled(first: int) -> Filled:
    """40 good records of one partition, from ``first`` on."""
    until, now = Position({0: first + 40}), time.monotonic()
    return Filled(0, 40, {0: first}, until, 40, {}, 0, (), now, time.time(), {0: first + 40}, None)


def pngs(folder: Path, x_BCHW: Tensor, y_B: Tensor) -> Path:
    for number, (x, y) in enumerate(zip(x_BCHW, y_B.tolist(), strict=True)):
        path = folder / str(y) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(Sample(x.numpy(), y), PNG)[0])
    return folder


def test_a_folder_s_service_goes_on_without_the_samples(tmp_path: Path) -> None:
    state = tmp_path / "state"
    x_BCHW, y_B = state_folder(state)
    before = checkpoint_files(state)
    done = forget(state, [pngs(tmp_path / "p", x_BCHW[:20], y_B[:20])], None, drop_older=False)
    assert (done.samples, done.learner) == (20, "ridge")
    assert list(done.remembering) == before
    assert checkpoint_files(state) == [*before, done.checkpoint]
    with StateFolder(state, keep=10) as folder:
        resumed = folder.newest(lambda *_: pytest.fail("unreadable"))
    assert resumed is not None
    assert (resumed.samples, resumed.position.offsets) == (120, {0: 120})
    ridge, never = Ridge(CONTEXT), Ridge(CONTEXT)
    ridge.load_state(resumed.learner)
    learned(never, x_BCHW[20:], y_B[20:], 20)
    unseen, _ = images(40, seed=5)
    torch.testing.assert_close(ridge.predict(unseen), never.predict(unseen), atol=2e-3, rtol=1e-2)


def ledger_of(folder: Path) -> list[Receipt]:
    return [entry.receipt for entry in read_entries(folder / LEDGER)]


def resumed(folder: Path) -> Receipts:
    """The ledger of a service that is started again."""
    with StateFolder(folder, keep=10) as state:
        newest = state.newest(lambda *_: None)
        receipts = open_receipts(state, "images", Retention.STATISTICS, POLICY, newest)
    assert receipts is not None
    return receipts


def test_forgetting_leaves_a_receipt_that_names_no_sample_and_an_audit_takes_it(tmp_path: Path) -> None:
    x_BCHW, y_B = state_folder(tmp_path / "state")
    some = pngs(tmp_path / "p", x_BCHW[:3], y_B[:3])
    forget(tmp_path / "state", [some], None, drop_older=True)
    receipt = ledger_of(tmp_path / "state")[-1]
    assert receipt.discarded_at == pytest.approx(time.time(), abs=60)
    about = {"erased": 3, "retention": "statistics", "policy": POLICY.digest, "topic": "images"}
    assert receipt == Receipt("erasure", spans=(), discarded_at=receipt.discarded_at, **cast("Any", about))
    entries = read_entries(tmp_path / "state" / LEDGER)
    verdict = audit(entries, POLICY, newest_mark(tmp_path / "state"))
    assert verdict.passed
    assert "3 samples were, of 120 learned" in [finding.answer for finding in verdict.findings]
    assert resumed(tmp_path / "state").mark.sequence == 4


def test_a_crash_before_the_receipt_is_in_the_ledger_neither_loses_nor_repeats_it(tmp_path: Path) -> None:
    x_BCHW, y_B = state_folder(tmp_path / "state")
    ledger = tmp_path / "state" / LEDGER
    before = ledger.read_bytes()
    forget(tmp_path / "state", [pngs(tmp_path / "p", x_BCHW[:3], y_B[:3])], None, drop_older=False)
    after = ledger.read_bytes()
    ledger.write_bytes(before)
    resumed(tmp_path / "state")
    assert ledger.read_bytes() == after


def test_falling_back_to_a_checkpoint_that_remembers_is_noted_and_the_audit_finds_it(tmp_path: Path) -> None:
    x_BCHW, y_B = state_folder(tmp_path / "state")
    some = pngs(tmp_path / "p", x_BCHW[:3], y_B[:3])
    done = forget(tmp_path / "state", [some], None, drop_older=False)
    done.checkpoint.write_bytes(b"torn")
    receipts = resumed(tmp_path / "state")
    with StateFolder(tmp_path / "state", keep=10) as folder:
        remembering = read_checkpoint(checkpoint_files(tmp_path / "state")[-1])
        remembering = replace(remembering, ledger=receipts.snapshot())
        folder.write(remembering)
        receipts.on_disk(remembering)
    assert [(receipt.kind, receipt.erased) for receipt in ledger_of(tmp_path / "state")[-2:]] == [
        ("erasure", 3),
        ("rollback", 3),
    ]
    assert not audit(read_entries(tmp_path / "state" / LEDGER)).passed
    forget(tmp_path / "state", [some], None, drop_older=True)
    assert audit(read_entries(tmp_path / "state" / LEDGER)).passed


def test_a_ledger_that_is_further_than_the_newest_checkpoint_is_refused(tmp_path: Path) -> None:
    x_BCHW, y_B = state_folder(tmp_path / "state")
    checkpoint_files(tmp_path / "state")[-1].unlink()
    with pytest.raises(InvalidFile, match="further than the newest checkpoint"):
        forget(tmp_path / "state", [pngs(tmp_path / "p", x_BCHW[:1], y_B[:1])], None, drop_older=False)


def test_the_command_says_what_still_remembers_and_deletes_it_on_demand(tmp_path: Path) -> None:
    x_BCHW, y_B = state_folder(tmp_path)
    np.savez(tmp_path / "two.npz", x=x_BCHW[:2, 0].numpy(), y=y_B[:2].numpy().astype(np.uint8))
    done = CliRunner().invoke(app, ["forget", str(tmp_path), str(tmp_path / "two.npz")])
    assert "ridge has forgotten 2 samples" in done.stdout
    assert done.stdout.count("still remembers them") == 3
    (png,) = pngs(tmp_path / "p", x_BCHW[2:3], y_B[2:3]).glob("*/*.png")
    arguments = ["forget", str(tmp_path), str(png), "--label", str(int(y_B[2])), "--drop-older", "--json"]
    done = CliRunner().invoke(app, arguments)
    (left,) = checkpoint_files(tmp_path)
    assert json.loads(done.stdout) == {
        "learner": "ridge",
        "samples": 1,
        "checkpoint": str(left),
        "remembering": [],
    }


def test_a_learner_without_sums_a_used_folder_and_one_without_checkpoints_are_refused(tmp_path: Path) -> None:
    x_BCHW, y_B = state_folder(tmp_path / "state", "finetune", older=0)
    some = pngs(tmp_path / "p", x_BCHW[:1], y_B[:1])
    with pytest.raises(InvalidSetting, match=r"learner finetune cannot forget .* come from gradients"):
        forget(tmp_path / "state", [some], None, drop_older=True)
    with StateFolder(tmp_path / "state", keep=3), pytest.raises(InvalidSetting, match="in use by another"):
        forget(tmp_path / "state", [some], None, drop_older=True)
    with pytest.raises(InvalidFile, match="holds no checkpoints"):
        forget(tmp_path / "p", [some], None, drop_older=False)
    assert len(checkpoint_files(tmp_path / "state")) == 1


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_either_forgets_or_says_why_not(name: str) -> None:
    kind = LEARNERS[name]
    assert issubclass(kind, Unlearns) is (name in KINDS)
    assert issubclass(kind, Unlearns) or kind.why_not_unlearn != Learner.why_not_unlearn


def test_samples_that_are_none_are_refused_by_name(tmp_path: Path) -> None:
    x_BCHW, y_B = images(2)
    (tmp_path / "text.txt").write_text("Lethe")
    (tmp_path / "bad.png").write_bytes(b"no PNG")
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "wide.npz", x=np.zeros((2, 9, 8), np.uint8), y=y_B.numpy())
    np.savez(tmp_path / "label.npz", x=x_BCHW.numpy(), y=np.array([0, 4]))
    np.savez(tmp_path / "half.npz", x=x_BCHW.numpy())
    for name, label, why in (
        ("text.txt", None, r"text\.txt is none of: a PNG, a folder"),
        ("bad.png", 1, r"bad\.png: not a PNG"),
        ("empty", None, "empty: no samples there"),
        ("wide.npz", None, r"wide\.npz: x is uint8 of shape \(2, 1, 9, 8\)"),
        ("label.npz", None, r"label\.npz: y has to be 2 whole numbers from 0 to 3"),
        ("half.npz", None, r"half\.npz has no arrays x and y"),
    ):
        with pytest.raises(InvalidFile, match=why):
            read_samples([tmp_path / name], label, LAYOUT)
    with pytest.raises(InvalidSetting, match=r"bad\.png: --label says"):
        read_samples([tmp_path / "bad.png"], None, LAYOUT)
