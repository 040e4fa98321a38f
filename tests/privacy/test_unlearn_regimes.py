"""`experts` forgets a sample from the regime that its receipt names, by the place of its record."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from lethe.checkpointing.checkpoint import Checkpoint, load_learner, read_checkpoint
from lethe.checkpointing.state_folder import StateFolder, checkpoint_files
from lethe.cli.main import app
from lethe.errors import InvalidFile, NeverLearned
from lethe.evaluation.history import History
from lethe.events import Resumed
from lethe.learners.analytic.experts import Experts
from lethe.learners.base import LearnerContext
from lethe.learners.state import JSON
from lethe.privacy.audit.learned_offsets import in_force, regimes_at
from lethe.privacy.audit.ledger import Entry, LedgerMark, read_entries
from lethe.privacy.audit.receipt import Receipt, RegimeSpan, regime_spans
from lethe.privacy.audit.receipt_writer import LEDGER, open_receipts
from lethe.privacy.controls import PolicyControls
from lethe.privacy.stored_learner import sums_digest
from lethe.privacy.unlearn import forget
from lethe.runtime.resume import fingerprint
from lethe.settings import Settings
from lethe.stream.source import Position
from tests.support.filled import filled
from tests.support.ledgers import batch, failed, passed_audit, verdict_of
from tests.support.states import WARD
from tests.support.subjects import LAYOUT, OPTIONS, Assigned, subject

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE, FIRST = 64, 1000
"""Samples of a batch, and offset of the first record, of partition 3."""
PARTITION = 3


def regimes_state(folder: Path, *visits: int) -> tuple[Tensor, Tensor, list[int]]:
    """Fill a state folder with 640 samples of each subject in turn; return them and their regimes."""
    given = Settings.read({"learner": {"name": "experts", "options": OPTIONS}, "sample": LAYOUT.model_dump()})
    learner, history = Experts(LearnerContext(LAYOUT, options=OPTIONS)), History([])
    parts = [subject(which, 100 * visit, 640) for visit, which in enumerate(visits)]
    x_NCHW, y_N = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    regimes: list[int] = []
    with StateFolder(folder, keep=10) as state:
        receipts = open_receipts(state, "images", learner.retains, PolicyControls(WARD), None)
        for begin in range(0, len(y_N), SIZE):
            taken = slice(begin, begin + SIZE)
            regime_B = learner.learn(x_NCHW[taken], y_N[taken]).regime_B
            assert regime_B is not None
            regimes += regime_B.tolist()
            history.learned(SIZE, None)
            places = [(PARTITION, FIRST + number) for number in range(begin, begin + SIZE)]
            made = replace(filled(FIRST + begin, SIZE, PARTITION), places=places)
            receipts.discarded(made, time.monotonic(), history.samples, regime_B.tolist())
        count = len(y_N)
        checkpoint = Checkpoint(
            fingerprint=fingerprint(given),
            position=Position({PARTITION: FIRST + count}),
            learner=learner.state(),
            random={},
            history=history.to_json(),
            counts=cast("JSON", asdict(Resumed(count, count, {}, 0))),
            samples=count,
            ledger=receipts.snapshot(),
        )
        state.write(checkpoint)
        receipts.on_disk(checkpoint)
    return x_NCHW, y_N, regimes


def learner_in(folder: Path) -> Experts:
    learner = Experts(LearnerContext(LAYOUT, options=OPTIONS))
    load_learner(learner, read_checkpoint(checkpoint_files(folder)[-1]))
    return learner


def never_learned(x_NCHW: Tensor, y_N: Tensor, regimes: Sequence[int], gone: Sequence[int]) -> str:
    """The hash of a learner that made the same assignments and never saw the samples ``gone``."""
    never = Assigned(max(regimes) + 1)
    rest = sorted(set(range(len(y_N))) - set(gone))
    never.learn_as(x_NCHW[rest], y_N[rest], [regimes[index] for index in rest])
    return sums_digest(never)


@pytest.mark.parametrize("count", [1, 100, 1000])
def test_what_is_forgotten_was_never_learned_to_the_last_bit(count: int, tmp_path: Path) -> None:
    state = tmp_path / "state"
    x_NCHW, y_N, regimes = regimes_state(state, 0, 1, 0, 2)
    assert set(regimes) == {0, 1, 2}
    before = sums_digest(learner_in(state))
    gone = torch.randperm(len(y_N), generator=torch.Generator().manual_seed(count))[:count].tolist()
    at = np.array([[PARTITION, FIRST + index] for index in gone])
    np.savez(tmp_path / "gone.npz", x=x_NCHW[gone].numpy(), y=y_N[gone].numpy(), at=at)
    forget(state, [tmp_path / "gone.npz"], None, drop_older=True, trust_labels=True)
    expected = never_learned(x_NCHW, y_N, regimes, gone)
    assert sums_digest(learner_in(state)) == expected
    receipt = list(read_entries(state / LEDGER))[-1].receipt
    assert (receipt.kind, receipt.erased) == ("erasure", count)
    assert (receipt.sums_before, receipt.sums_after) == (before, expected)
    assert not receipt.regimes
    passed_audit(state, WARD)


def test_a_place_says_the_regime_and_without_one_nothing_is_forgotten(tmp_path: Path) -> None:
    state = tmp_path / "state"
    x_NCHW, y_N, regimes = regimes_state(state, 0, 1)
    samples = tmp_path / "two.npz"
    np.savez(samples, x=x_NCHW[[5, -5]].numpy(), y=y_N[[5, -5]].numpy())
    files = checkpoint_files(state)

    def forgotten(*places: str) -> Any:
        at = [word for place in places for word in ("--at", place)]
        return CliRunner().invoke(app, ["forget", str(state), str(samples), "--trust-labels", *at])

    for places, why in (
        ((), "0 places are given for 2 samples; give --at PARTITION:OFFSET"),
        (("3:1005",), "1 places are given for 2 samples"),
        (("3:1005", "3"), "--at 3 is not PARTITION:OFFSET"),
        (("3:1005", "3:1005"), "offset 1005 of partition 3 is given twice"),
        (("3:1005", "3:999"), "at offset 999 of partition 3 was added: nothing was learned from there"),
        (("3:1005", "0:1005"), "at offset 1005 of partition 0 was added"),
        (("3:1005", "3:2280"), "at offset 2280 of partition 3 was added"),
    ):
        assert why in str(forgotten(*places).exception)
        assert checkpoint_files(state) == files
    last = FIRST + len(y_N) - 5
    assert forgotten("3:1005", f"3:{last}").exit_code == 0
    expected = never_learned(x_NCHW, y_N, regimes, [5, len(y_N) - 5])
    assert sums_digest(learner_in(state)) == expected


def test_while_there_is_one_regime_no_place_is_needed(tmp_path: Path) -> None:
    x_NCHW, y_N, regimes = regimes_state(tmp_path / "state", 0)
    np.savez(tmp_path / "one.npz", x=x_NCHW[:1].numpy(), y=y_N[:1].numpy())
    forget(tmp_path / "state", [tmp_path / "one.npz"], None, drop_older=True, trust_labels=True)
    assert sums_digest(learner_in(tmp_path / "state")) == never_learned(x_NCHW, y_N, regimes, [0])


def test_an_array_of_places_has_to_be_one_pair_for_each_sample(tmp_path: Path) -> None:
    x_NCHW, y_N, _ = regimes_state(tmp_path / "state", 0)
    for at in (np.zeros((2, 2), np.int64), np.zeros((1, 2)), np.zeros(1, np.int64)):
        np.savez(tmp_path / "one.npz", x=x_NCHW[:1].numpy(), y=y_N[:1].numpy(), at=at)
        with pytest.raises(InvalidFile, match="at has to be 1 pairs of partition and offset"):
            forget(tmp_path / "state", [tmp_path / "one.npz"], None, drop_older=False)


def test_a_receipt_names_the_regimes_of_its_samples_and_no_dead_letter() -> None:
    places = [(0, 4), (1, 9), (0, 5), (1, 10), (0, 7)]  # offset 6 was malformed
    assert regime_spans(places, [0, 0, 0, 2, 0]) == (
        RegimeSpan(0, 0, 4, 6),
        RegimeSpan(0, 0, 7, 8),
        RegimeSpan(0, 1, 9, 10),
        RegimeSpan(2, 1, 10, 11),
    )
    assert regime_spans(places, []) == regime_spans([], [0, 1]) == ()


def entries(*receipts: Receipt) -> list[Entry]:
    return [Entry(LedgerMark(number, "ab" * 32), receipt) for number, receipt in enumerate(receipts, 1)]


def test_a_rolled_back_batch_names_no_regime() -> None:
    batches = [
        batch(0, regimes=(RegimeSpan(0, 0, 0, 64),)),
        batch(64, regimes=(RegimeSpan(1, 0, 64, 128),)),
        replace(batch(64), kind="rollback", back_to=1),
    ]
    with pytest.raises(NeverLearned, match="offset 70 of partition 0"):
        regimes_at(in_force(entries(*batches)), [(0, 70)])
    again = batch(64, regimes=(RegimeSpan(2, 0, 64, 128),))
    assert regimes_at(in_force(entries(*batches, again)), [(0, 70), (0, 3)]) == [2, 0]
    with pytest.raises(InvalidFile, match="receipt 2: a rollback that does not say"):
        in_force(entries(batches[0], replace(batches[2], back_to=None)))
    anew = replace(batch(0), kind="recreation", spans=())
    with pytest.raises(NeverLearned, match="offset 3 of partition 0"):
        regimes_at(in_force(entries(batches[0], anew)), [(0, 3)])


def test_a_receipt_whose_regimes_leave_out_a_sample_is_found(tmp_path: Path) -> None:
    assert verdict_of(tmp_path, batch(0, regimes=(RegimeSpan(1, 0, 0, 64),))).passed
    (tmp_path / "less").mkdir()
    less = verdict_of(tmp_path / "less", batch(0, regimes=(RegimeSpan(1, 0, 0, 63),)))
    assert failed(less) == ["Is every record accounted for?"]
