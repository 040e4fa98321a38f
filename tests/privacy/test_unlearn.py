"""Exact erasure: a sample that is presented again leaves no trace in the learner's state."""

import json
import sys
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

from lethe.checkpointing.checkpoint import read_checkpoint
from lethe.checkpointing.state_folder import StateFolder, checkpoint_files
from lethe.cli.main import app
from lethe.errors import InvalidFile, InvalidSetting, NeverLearned
from lethe.events import LedgerHead
from lethe.learners.analytic.base import SumsLearner
from lethe.learners.analytic.ncm import NCM
from lethe.learners.analytic.ridge import Ridge
from lethe.learners.analytic.slda import SLDA
from lethe.learners.base import Learner, LearnerContext, Retention
from lethe.learners.capabilities import Capability, Unlearns
from lethe.learners.registry import LEARNERS, create
from lethe.learners.state import JSON
from lethe.privacy.audit.evidence import checkpoint_totals
from lethe.privacy.audit.ledger import read_entries
from lethe.privacy.audit.receipt import Receipt
from lethe.privacy.audit.receipt_writer import LEDGER, LedgerReceipts, open_receipts
from lethe.privacy.audit.verify import audit
from lethe.privacy.controls import PolicyControls
from lethe.privacy.policy import Policy
from lethe.privacy.samples import read_samples
from lethe.privacy.stored_learner import sums_digest
from lethe.privacy.unlearn import forget
from lethe.privacy.verify_sums import verify_sums
from lethe.runtime.resume import fingerprint
from lethe.settings import Settings
from lethe.wire import PNG, Layout, Sample, encode
from tests.support.checkpoints import checkpoint
from tests.support.filled import filled

LAYOUT = Layout(height=8, width=8, classes=4)
RIDGE: dict[str, JSON] = {"waves": 150, "first_refresh": 16}
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


@pytest.mark.parametrize("name", KINDS)
def test_every_learner_of_sums_forgets_as_if_it_had_never_seen(name: str) -> None:
    kind, options = KINDS[name]
    x_BCHW, y_B = images(240, seed=3)
    context = LearnerContext(LAYOUT, options=options)
    one, never = learned(kind(context), x_BCHW, y_B), learned(kind(context), x_BCHW[32:], y_B[32:])
    assert isinstance(one, SumsLearner)
    assert isinstance(never, SumsLearner)
    one.unlearn(x_BCHW[:32], y_B[:32])
    assert all(torch.equal(mine, never.sums()[name]) for name, mine in one.sums().items())
    x_unseen, y_unseen = images(40, seed=4)
    p_BK = one.predict_proba(x_unseen)
    assert torch.equal(p_BK, never.predict_proba(x_unseen))
    assert torch.equal(one.learn(x_unseen, y_unseen).predicted_B, p_BK.argmax(1))  # learning forgot it, too


@pytest.mark.parametrize("name", KINDS)
def test_all_of_a_class_can_be_forgotten(name: str) -> None:
    kind, options = KINDS[name]
    x_BCHW, y_B = images(200)
    learner = learned(kind(LearnerContext(LAYOUT, options=options)), x_BCHW, y_B)
    assert isinstance(learner, Unlearns)
    learner.unlearn(x_BCHW[y_B == 2], y_B[y_B == 2])
    assert not (learner.predict_proba(x_BCHW).argmax(1) == 2).any()


@pytest.mark.parametrize("name", KINDS)
def test_what_cannot_have_been_learned_is_rejected_and_nothing_changes(name: str) -> None:
    kind, options = KINDS[name]
    x_BCHW, y_B = images(40)
    ridge = learned(kind(LearnerContext(LAYOUT, options=options)), x_BCHW, y_B)
    assert isinstance(ridge, Unlearns)
    before = {name: tensor.clone() for name, tensor in ridge.state().tensors.items()}
    ones = int((y_B == 1).sum())
    twice = torch.cat([x_BCHW[y_B == 1], x_BCHW[:1]]), torch.ones(ones + 1, dtype=torch.int64)
    with pytest.raises(NeverLearned, match=f"{ones + 1} samples of class 1 are to be forgotten, {ones} were"):
        ridge.unlearn(*twice)
    stranger = images(1, seed=9)[0]
    if name != "ncm":  # which keeps means alone
        with pytest.raises(NeverLearned, match="their leverage is above 1"):
            ridge.unlearn(stranger, y_B[:1])
    assert all(torch.equal(tensor, before[name]) for name, tensor in ridge.state().tensors.items())


@pytest.mark.parametrize("name", ["ridge", "slda"])
def test_a_sample_with_another_label_than_it_was_learned_with_is_rejected_while_the_sums_show_it(
    name: str,
) -> None:
    kind, options = KINDS[name]
    x_BCHW, y_B = images(24)  # of 219 features
    learner = learned(kind(LearnerContext(LAYOUT, options=options)), x_BCHW, y_B)
    assert isinstance(learner, Unlearns)
    before = {name: tensor.clone() for name, tensor in learner.state().tensors.items()}
    for i in range(24):
        for other in range(1, LAYOUT.classes):
            with pytest.raises(NeverLearned, match=r"in the sums with these labels|of class \d are to be"):
                learner.unlearn(x_BCHW[i : i + 1], (y_B[i : i + 1] + other) % LAYOUT.classes)
    assert all(torch.equal(tensor, before[name]) for name, tensor in learner.state().tensors.items())
    for i in range(24):  # each with its own is taken, down to none
        learner.unlearn(x_BCHW[i : i + 1], y_B[i : i + 1])


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000), count=st.integers(1, 400), part=st.floats(0.01, 1))
def test_a_learned_sample_is_never_rejected(seed: int, count: int, part: float) -> None:
    x_BCHW, y_B = images(count, seed)
    ridge = learned(Ridge(CONTEXT), x_BCHW, y_B)
    assert isinstance(ridge, Ridge)
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[: max(1, int(part * count))]
    ridge.unlearn(x_BCHW[chosen], y_B[chosen])


def state_folder(path: Path, name: str = "ridge", older: int = 2) -> tuple[Tensor, Tensor]:
    """Fill a state folder with 120 learned samples, and a checkpoint and a receipt after each 40."""
    options: Any = RIDGE if name == "ridge" else {}
    given = Settings.read({"learner": {"name": name, "options": options}, "sample": LAYOUT.model_dump()})
    learner = create(name, LearnerContext(LAYOUT, options=options))
    x_BCHW, y_B = images(120)
    with StateFolder(path, keep=10) as folder:
        receipts = open_receipts(folder, "images", learner.retains, PolicyControls(POLICY), None)
        for part in range(older + 1):
            learned(learner, x_BCHW[40 * part : 40 * part + 40], y_B[40 * part : 40 * part + 40], 40)
            receipts.discarded(filled(40 * part), time.monotonic(), 40 * part + 40)
            made = replace(checkpoint(40 * part + 40), fingerprint=fingerprint(given))
            made = replace(made, learner=learner.state(), ledger=receipts.snapshot())
            folder.write(made)
            receipts.on_disk(made)
    return x_BCHW, y_B


def pngs(folder: Path, x_BCHW: Tensor, y_B: Tensor) -> Path:
    for number, (x, y) in enumerate(zip(x_BCHW, y_B.tolist(), strict=True)):
        path = folder / str(y) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(Sample(x.numpy(), y), PNG)[0])
    return folder


def test_a_folders_service_continues_without_the_samples(tmp_path: Path) -> None:
    state = tmp_path / "state"
    x_BCHW, y_B = state_folder(state)
    before = checkpoint_files(state)
    done = forget(state, [pngs(tmp_path / "p", x_BCHW[:20], y_B[:20])], None, drop_older=False)
    assert (done.samples, done.learner) == (20, "ridge")
    assert list(done.remembering) == before
    assert checkpoint_files(state) == [*before, done.checkpoint]
    with StateFolder(state, keep=10) as folder:
        resumed = folder.load_newest(lambda *_: pytest.fail("unreadable"))
    assert resumed is not None
    assert (resumed.samples, resumed.position.offsets) == (120, {0: 120})
    ridge, never = Ridge(CONTEXT), Ridge(CONTEXT)
    ridge.load_state(resumed.learner)
    learned(never, x_BCHW[20:], y_B[20:], 20)
    unseen, _ = images(40, seed=5)
    torch.testing.assert_close(ridge.predict_proba(unseen), never.predict_proba(unseen), atol=2e-3, rtol=1e-2)


def ledger_of(folder: Path) -> list[Receipt]:
    return [entry.receipt for entry in read_entries(folder / LEDGER)]


def resumed(folder: Path) -> LedgerReceipts:
    """Return the receipts of a service that is started again."""
    with StateFolder(folder, keep=10) as state:
        newest = state.load_newest(lambda *_: None)
        receipts = open_receipts(state, "images", Retention.STATISTICS, PolicyControls(POLICY), newest)
    assert isinstance(receipts, LedgerReceipts)
    return receipts


def test_forgetting_writes_a_receipt_without_samples_and_the_audit_passes(tmp_path: Path) -> None:
    x_BCHW, y_B = state_folder(tmp_path / "state")
    some = pngs(tmp_path / "p", x_BCHW[:3], y_B[:3])
    forget(tmp_path / "state", [some], None, drop_older=True)
    receipt = ledger_of(tmp_path / "state")[-1]
    assert receipt.discarded_at == pytest.approx(time.time(), abs=60)
    about = {"erased": 3, "retention": "statistics", "policy": POLICY.digest, "topic": "images"}
    never = learned(Ridge(CONTEXT), x_BCHW[3:], y_B[3:])
    sums = {
        "sums_before": sums_digest(learned(Ridge(CONTEXT), x_BCHW, y_B)),
        "sums_after": sums_digest(never),
    }
    about = about | sums | {"discarded_at": receipt.discarded_at}
    assert receipt == Receipt("erasure", spans=(), **cast("Any", about))
    entries = read_entries(tmp_path / "state" / LEDGER)
    verdict = audit(entries, POLICY, checkpoint_totals(tmp_path / "state"))
    assert verdict.passed
    assert "3 of 120 learned samples were erased" in [finding.answer for finding in verdict.findings]
    heads = [event for event in resumed(tmp_path / "state").status() if isinstance(event, LedgerHead)]
    assert [head.receipts for head in heads] == [4]


def test_a_crash_before_the_receipt_is_in_the_ledger_neither_loses_nor_repeats_it(tmp_path: Path) -> None:
    x_BCHW, y_B = state_folder(tmp_path / "state")
    ledger = tmp_path / "state" / LEDGER
    before = ledger.read_bytes()
    forget(tmp_path / "state", [pngs(tmp_path / "p", x_BCHW[:3], y_B[:3])], None, drop_older=False)
    after = ledger.read_bytes()
    ledger.write_bytes(before)
    resumed(tmp_path / "state")
    assert ledger.read_bytes() == after


def test_falling_back_to_a_checkpoint_with_the_sample_is_found_by_the_audit(
    tmp_path: Path,
) -> None:
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


def test_a_ledger_that_is_ahead_of_the_newest_checkpoint_is_rejected(tmp_path: Path) -> None:
    x_BCHW, y_B = state_folder(tmp_path / "state")
    checkpoint_files(tmp_path / "state")[-1].unlink()
    with pytest.raises(InvalidFile, match="is ahead of the newest checkpoint"):
        forget(tmp_path / "state", [pngs(tmp_path / "p", x_BCHW[:1], y_B[:1])], None, drop_older=False)


def test_the_command_names_checkpoints_with_the_sample_and_deletes_them_on_demand(tmp_path: Path) -> None:
    x_BCHW, y_B = state_folder(tmp_path)
    np.savez(tmp_path / "two.npz", x=x_BCHW[:2, 0].numpy(), y=y_B[:2].numpy().astype(np.uint8))
    done = CliRunner().invoke(app, ["forget", str(tmp_path), str(tmp_path / "two.npz")])
    assert "ridge has forgotten 2 samples" in done.stdout
    assert done.stdout.count("still contains them") == 3
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


def test_a_learner_without_sums_a_used_folder_and_an_empty_one_are_rejected(
    tmp_path: Path,
) -> None:
    x_BCHW, y_B = state_folder(tmp_path / "state", "finetune", older=0)
    some = pngs(tmp_path / "p", x_BCHW[:1], y_B[:1])
    with pytest.raises(InvalidSetting, match=r"finetune cannot forget .* trained by gradient descent"):
        forget(tmp_path / "state", [some], None, drop_older=True)
    with StateFolder(tmp_path / "state", keep=3), pytest.raises(InvalidSetting, match="in use by another"):
        forget(tmp_path / "state", [some], None, drop_older=True)
    with pytest.raises(InvalidFile, match="holds no checkpoints"):
        forget(tmp_path / "p", [some], None, drop_older=False)
    assert len(checkpoint_files(tmp_path / "state")) == 1


def test_a_label_that_the_learner_would_not_predict_has_to_be_confirmed(tmp_path: Path) -> None:
    x_BCHW, y_B = state_folder(tmp_path / "state")
    ncm = LearnerContext(LAYOUT)
    state_folder(tmp_path / "ncm", "ncm")
    taken_B = learned(NCM(ncm), x_BCHW, y_B, 40).predict_proba(x_BCHW).argmax(1)
    wrong = int((taken_B != y_B).nonzero()[0])  # learned with its label, and still taken for another
    (png,) = pngs(tmp_path / "p", x_BCHW[wrong : wrong + 1], y_B[wrong : wrong + 1]).glob("*/*.png")
    arguments = ["forget", str(tmp_path / "ncm"), str(png), "--label", str(int(y_B[wrong]))]
    files = checkpoint_files(tmp_path / "ncm")
    refused = CliRunner().invoke(app, arguments)
    assert f"number 1 as {taken_B[wrong]} instead of {y_B[wrong]}" in str(refused.exception)
    assert isinstance(refused.exception, NeverLearned)
    assert checkpoint_files(tmp_path / "ncm") == files
    assert CliRunner().invoke(app, [*arguments, "--trust-labels"]).exit_code == 0
    with pytest.raises(NeverLearned, match="ridge classifies 1 of 1 samples differently"):
        forget(tmp_path / "state", [png], int(y_B[wrong] + 1) % 4, drop_older=False)
    with pytest.raises(InvalidFile, match="label"):
        forget(tmp_path / "state", [png], 4, drop_older=False, trust_labels=True)


def test_nothing_is_imported_because_a_checkpoint_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    about = site / "styx-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: styx\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[lethe.learners]\nstyx = lethe_styx:Styx\n")
    (site / "lethe_styx.py").write_text(
        "from lethe.learners.analytic.ridge import Ridge\nclass Styx(Ridge):\n    name = 'styx'\n"
    )
    monkeypatch.syspath_prepend(site)
    x_BCHW, y_B = state_folder(tmp_path / "state", older=0)
    some = pngs(tmp_path / "p", x_BCHW[:1], y_B[:1])
    (path,) = checkpoint_files(tmp_path / "state")
    made = read_checkpoint(path)
    path.unlink()

    def named(**about: JSON) -> None:
        for old in checkpoint_files(tmp_path / "state"):
            old.unlink()
        with StateFolder(tmp_path / "state", keep=10) as folder:
            folder.write(replace(made, fingerprint={**made.fingerprint, **about}))

    named(**{"learner.name": "styx"})
    with pytest.raises(InvalidSetting, match="allow it with --learner styx"):
        forget(tmp_path / "state", [some], None, drop_older=False)
    with pytest.raises(InvalidSetting, match="--learner styx"):
        forget(tmp_path / "state", [some], None, drop_older=False, plugin="acheron")
    named(**{"learner.name": "finetune", "learner.options.backbone": "lethe_styx:Styx"})
    with pytest.raises(InvalidSetting, match="finetune cannot forget"):
        forget(tmp_path / "state", [some], None, drop_older=False)
    assert "lethe_styx" not in sys.modules
    named(**{"learner.name": "styx"})
    assert forget(tmp_path / "state", [some], None, drop_older=False, plugin="styx").learner == "styx"


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_either_forgets_or_says_why_not(name: str) -> None:
    kind, forgets = LEARNERS[name], name in {*KINDS, "experts"}
    assert issubclass(kind, Unlearns) is forgets
    assert (Capability.UNLEARNS in kind.capabilities) is forgets
    why_not = kind.why_not(Capability.UNLEARNS)
    assert why_not == "" if forgets else why_not not in {"", Learner.lacks[Capability.UNLEARNS]}


def test_invalid_samples_are_rejected_by_name(tmp_path: Path) -> None:
    x_BCHW, y_B = images(2)
    (tmp_path / "text.txt").write_text("Lethe")
    (tmp_path / "bad.png").write_bytes(b"no PNG")
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "wide.npz", x=np.zeros((2, 9, 8), np.uint8), y=y_B.numpy())
    np.savez(tmp_path / "label.npz", x=x_BCHW.numpy(), y=np.array([0, 4]))
    np.savez(tmp_path / "half.npz", x=x_BCHW.numpy())
    for name, label, why in (
        ("text.txt", None, r"text\.txt is not supported; give a PNG, a folder"),
        ("bad.png", 1, r"bad\.png: not a PNG"),
        ("empty", None, "empty: no samples found"),
        ("wide.npz", None, r"wide\.npz: x is uint8 of shape \(2, 1, 9, 8\)"),
        ("label.npz", None, r"label\.npz: y has to be 2 whole numbers from 0 to 3"),
        ("half.npz", None, r"half\.npz has no readable arrays x and y"),
    ):
        with pytest.raises(InvalidFile, match=why):
            read_samples([tmp_path / name], label, LAYOUT)
    with pytest.raises(InvalidSetting, match=r"bad\.png: pass the label"):
        read_samples([tmp_path / "bad.png"], None, LAYOUT)


def verified(*arguments: Path | str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, ["verify", *map(str, arguments), "--json"])
    return done.exit_code, json.loads(done.output)


@pytest.mark.parametrize("name", KINDS)
def test_a_learner_that_forgot_is_verified_to_know_the_rest_alone(name: str, tmp_path: Path) -> None:
    state = tmp_path / "state"
    x_BCHW, y_B = state_folder(state, name)
    forget(state, [pngs(tmp_path / "gone", x_BCHW[:20], y_B[:20])], None, drop_older=False, trust_labels=True)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0)) + 20
    rest = tmp_path / "rest.npz"
    np.savez(rest, x=x_BCHW[order].numpy(), y=y_B[order].numpy())
    status, verdict = verified(state, rest)
    assert status == 0
    assert (verdict["learner"], verdict["samples"], verdict["equal"]) == (name, 100, True)
    assert verdict["stored"] == verdict["computed"] == ledger_of(state)[-1].sums_after
    before, newest = checkpoint_files(state)[-2:]
    assert verified(before, rest)[0] == 1  # it knows those that were forgotten later
    everything = tmp_path / "all.npz"
    np.savez(everything, x=x_BCHW.numpy(), y=y_B.numpy())
    assert verified(before, everything)[1]["equal"] is True
    assert verified(newest, everything)[1]["equal"] is False


def test_what_is_verified_is_printed(tmp_path: Path) -> None:
    x_BCHW, y_B = state_folder(tmp_path / "state")
    np.savez(tmp_path / "all.npz", x=x_BCHW.numpy(), y=y_B.numpy())
    np.savez(tmp_path / "part.npz", x=x_BCHW[1:].numpy(), y=y_B[1:].numpy())
    done = CliRunner().invoke(app, ["verify", str(tmp_path / "state"), str(tmp_path / "all.npz")])
    assert (done.exit_code, "equal: it knows these samples" in done.output) == (0, True)
    done = CliRunner().invoke(app, ["verify", str(tmp_path / "state"), str(tmp_path / "part.npz")])
    assert (done.exit_code, "not equal:" in done.output) == (1, True)


def test_a_learner_without_exact_sums_cannot_be_verified(tmp_path: Path) -> None:
    state_folder(tmp_path / "state", "finetune", older=0)
    with pytest.raises(InvalidSetting, match="finetune has no exact sums to verify: its state is not a sum"):
        verify_sums(tmp_path / "state", [tmp_path], None)
    (tmp_path / "none").mkdir()
    with pytest.raises(InvalidFile, match="holds no checkpoints"):
        verify_sums(tmp_path / "none", [tmp_path], None)
