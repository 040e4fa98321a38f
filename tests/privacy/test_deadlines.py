"""Samples that a learner keeps are deleted in time, across restarts, with a receipt for the audit."""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lethe.checkpointing.checkpoint import state_digest
from lethe.checkpointing.checkpointer import Checkpointer
from lethe.checkpointing.state_folder import StateFolder, checkpoint_files
from lethe.errors import InvalidSetting
from lethe.evaluation.history import History
from lethe.events import Event, PolicyViolated, SamplesRetained
from lethe.ingest.batcher import Start
from lethe.ingest.feed import Batch
from lethe.learners.base import LearnerContext, Retention
from lethe.learners.finite import FiniteCheck
from lethe.learners.gradient.finetune import Finetune
from lethe.learners.gradient.replay import RehearsalOptions, Replay
from lethe.learners.registry import LEARNERS
from lethe.learners.state import JSON
from lethe.observability.run_state import RunState
from lethe.privacy.apply import apply_policy
from lethe.privacy.audit.ledger import read_entries
from lethe.privacy.audit.receipt import Span
from lethe.privacy.audit.receipt_writer import LEDGER, LedgerReceipts, open_receipts
from lethe.privacy.audit.verify import audit
from lethe.privacy.controls import PolicyControls
from lethe.privacy.deadlines import Expiry, SampleDeadlines, TimeToLive
from lethe.privacy.enforcement import PolicyEnforcer
from lethe.privacy.policy import Policy
from lethe.runtime.loop import Loop
from lethe.runtime.persistence import Checkpoints
from lethe.runtime.resume import restore, take_checkpoint
from lethe.settings import Settings
from tests.support.clocks import Clock
from tests.support.feeds import LAYOUT, ScriptedFeed, segment

TTL = TimeToLive(seconds=100.0, margin=20.0, checkpoints=2)
POLICY = Policy.model_validate(
    {"name": "week", "retention": "samples", "samples": {"capacity": 50, "ttl_seconds": 100}}
)


class Clocks(Clock):
    """The clocks of the object under test."""

    def kept(self, since: JSON = None) -> SampleDeadlines:
        return SampleDeadlines(TTL, since, lambda: self.now, lambda: self.date)


@pytest.fixture
def clock() -> Clocks:
    return Clocks()


def test_samples_are_due_when_only_the_margin_is_left(clock: Clocks) -> None:
    kept = clock.kept()
    kept.learned(clock.now, 0, {0: 5})
    clock.wait(50)
    kept.learned(clock.now, 64, {0: 69})
    clock.wait(29)
    assert kept.due(128, {0: 133}) is None
    clock.wait(1)
    assert kept.due(128, {0: 133}) == Expiry(64, {0: 5}, {0: 69}, age=80.0)
    assert kept.due(128, {0: 133}) is None
    clock.wait(50)
    assert kept.due(128, {0: 133}) == Expiry(128, {0: 69}, {0: 133}, age=80.0)
    assert kept.status() == SamplesRetained(0.0, allowed=100.0)


@given(st.lists(st.floats(0, 30), min_size=1, max_size=60))
def test_no_sample_is_kept_beyond_its_time_and_memory_is_bounded(pauses: list[float]) -> None:
    clock = Clocks()
    kept, gone = clock.kept(), 0
    arrived: list[float] = []
    for pause in pauses:
        clock.wait(pause)
        if (cut := kept.due(len(arrived), {0: len(arrived)})) is not None:
            gone = cut.samples
        assert all(clock.now - at < 80 for at in arrived[gone:])
        assert all(clock.now - at > 80 - 1 for at in arrived[:gone])
        kept.learned(clock.now, len(arrived), {0: len(arrived)})
        arrived.append(clock.now)
        assert kept.status().seconds == pytest.approx(clock.now - arrived[gone], abs=1.0)
    noted: Any = kept.snapshot()
    assert len(noted["arrived"]) <= 101


def test_time_counts_while_the_service_is_not_running(clock: Clocks) -> None:
    kept = clock.kept()
    kept.learned(clock.now, 0, {0: 0})
    clock.wait(30)
    kept.learned(clock.now, 64, {0: 64})
    since = kept.snapshot()
    clock.date += 60
    clock.now = 7.0  # another boot
    later = clock.kept(since)
    assert later.status().seconds == 90
    assert later.due(128, {0: 128}) == Expiry(64, {0: 0}, {0: 64}, age=90.0)
    assert later.status().seconds == 90  # the newest checkpoint has them


def test_a_sample_counts_as_kept_until_no_checkpoint_has_it(clock: Clocks) -> None:
    kept = clock.kept()
    kept.learned(clock.now, 0, {0: 0})
    clock.wait(10)
    kept.checkpoint_written(kept.snapshot())
    clock.wait(75)
    kept.due(64, {0: 64})
    ages = []
    for _ in range(3):
        ages.append(kept.status().seconds)
        clock.wait(1)
        kept.checkpoint_written(kept.snapshot())
    assert ages == [85, 86, 0]
    kept.checkpoint_written({"arrived": [[clock.date - 5, 0, {"0": 0}]], "on_disk": []})
    kept.checkpoint_written(kept.snapshot())
    assert kept.status().seconds == 5
    kept.only_newest_checkpoint_left()
    assert kept.status().seconds == 0


def test_checkpoints_are_so_frequent_that_samples_are_out_of_them_in_time() -> None:
    replay = LEARNERS["replay"]
    chosen = Settings.read(
        {"checkpoint": {"folder": "state"}, "learner": {"name": "replay", "options": {"capacity": 50}}}
    )
    checkpoint = apply_policy(chosen, POLICY, replay, []).checkpoint
    assert checkpoint.every_seconds == pytest.approx(100 / 12)
    ttl = PolicyControls(POLICY).time_to_live(replay, checkpoint)
    assert isinstance(ttl, TimeToLive)
    assert ttl.margin == pytest.approx(50)
    assert (ttl.seconds, ttl.checkpoints) == (100, 3)
    assert not PolicyControls(POLICY).time_to_live(LEARNERS["finetune"], checkpoint).is_limited
    assert apply_policy(chosen, POLICY, LEARNERS["finetune"], []).checkpoint.every_seconds == 30


def test_a_learner_that_cannot_delete_its_samples_is_rejected() -> None:
    class Hoarder(Finetune):
        name, retains, Options = "hoarder", Retention.SAMPLES, RehearsalOptions

    chosen = Settings.read({"checkpoint": {"folder": "state"}, "learner": {"options": {"capacity": 50}}})
    with pytest.raises(
        InvalidSetting, match=r"hoarder keeps samples and cannot delete old ones .* policy week"
    ):
        apply_policy(chosen, POLICY, Hoarder, [])


def run(folder: Path, samples: int, later: float = 0.0, rest: float = 0.0) -> tuple[Replay, list[Event]]:
    """Learn ``samples`` samples into ``folder``, from the newest checkpoint, ``later`` seconds after it.

    When all is learned, the service goes on serving for ``rest`` seconds.
    """
    rested = [0.0]
    with StateFolder(folder, keep=TTL.checkpoints) as state:
        checkpoint = state.load_newest(lambda *_: pytest.fail("unreadable"))
        replay = Replay(LearnerContext(LAYOUT, options={"capacity": 40, "backbone": "mlp"}))
        history = History([]) if checkpoint is None else History.from_json(checkpoint.history)
        run_state = RunState(Settings(), Replay, history)
        events: list[Event] = []
        enforcer = PolicyEnforcer(POLICY, events.append)

        def emit(event: Event) -> None:
            events.append(event)
            enforcer(event)

        feed, start, since = ScriptedFeed(segment("a", samples, seed=int(later))), None, None
        if checkpoint is not None:
            restore(checkpoint, replay, history, emit)
            start, since = Start(checkpoint.position, None), cast("dict[str, Any]", checkpoint.ledger)["kept"]
            feed.go_on(checkpoint.position)
        receipts = open_receipts(state, "images", Retention.SAMPLES, PolicyControls(POLICY), checkpoint, TTL)
        assert isinstance(receipts, LedgerReceipts)
        receipts.deadlines = SampleDeadlines(
            TTL, since, lambda: time.monotonic() + rested[0], lambda: time.time() + later + rested[0]
        )
        settings = Settings.read({"checkpoint": {"every_samples": 16}}).checkpoint
        checkpointer = Checkpointer(state, settings, emit, receipts.on_disk)
        taking = partial(take_checkpoint, Settings(), replay, history, run_state, receipts)
        loop = Loop(
            feed=feed,
            learner=replay,
            evaluator=None,
            evaluate_every=10**6,
            history=history,
            emit=emit,
            stopping=lambda: False,
            persistence=Checkpoints(checkpointer, taking, FiniteCheck(replay)),
            receipts=receipts,
            start=start,
        )
        loop.run()
        for rested[0] in (rest / 2, rest):
            loop.rest()
        checkpointer.close()
    return replay, events


def pixels_of(replay: Replay) -> set[bytes]:
    return {x.numpy().tobytes() for x in replay.state().tensors["reservoir.pixels"][: len(replay._reservoir)]}


@pytest.mark.parametrize(("later", "violations"), [(40, []), (85, []), (200, ["ttl"])])
def test_after_a_restart_expired_samples_are_deleted_from_memory_and_disk(
    later: int, violations: list[str], tmp_path: Path
) -> None:
    old = pixels_of(run(tmp_path, 64)[0])
    assert len(old) == 40
    replay, events = run(tmp_path, 64, later)
    held = pixels_of(replay)
    assert len(held) >= 20
    assert bool(held & old) is (later == 40)
    on_disk = b"".join(path.read_bytes() for path in checkpoint_files(tmp_path))
    assert any(x in on_disk for x in old) is (later == 40)
    assert [event.rule for event in events if isinstance(event, PolicyViolated)] == violations

    entries = list(read_entries(tmp_path / LEDGER))
    expired = [entry.receipt for entry in entries if entry.receipt.kind == "expiry"]
    assert [(receipt.erased, receipt.spans) for receipt in expired] == [(40, (Span(0, 0, 64),))] * (
        later > 40
    )
    verdict = audit(entries, POLICY, now=time.time() + later)
    assert [finding.question for finding in verdict.findings if not finding.passed] == (
        ["Was no sample kept for too long?"] if violations else []
    )


def test_a_service_that_keeps_serving_after_the_stream_deletes_its_samples(tmp_path: Path) -> None:
    replay, events = run(tmp_path, 64, rest=85)
    assert pixels_of(replay) == set()
    ages = [event.seconds for event in events if isinstance(event, SamplesRetained)]
    assert 84 < max(ages) < 100
    assert len({path.read_bytes() for path in checkpoint_files(tmp_path)}) == 1
    assert not any(isinstance(event, PolicyViolated) for event in events)


def test_as_long_as_nothing_expires_a_time_to_live_changes_nothing(tmp_path: Path) -> None:
    with_ttl, _ = run(tmp_path, 64)
    without = Replay(LearnerContext(LAYOUT, options={"capacity": 40, "backbone": "mlp"}))
    feed = ScriptedFeed(segment("a", 64))
    while isinstance(batch := feed.next(0), Batch):
        without.learn(torch.from_numpy(batch.x_BCHW), torch.from_numpy(batch.y_B))
        feed.release(batch)
    assert state_digest(with_ttl.state()) == state_digest(without.state())


def test_samples_from_before_there_was_a_time_to_live_count_as_old_as_the_first(tmp_path: Path) -> None:
    run(tmp_path, 64)
    with StateFolder(tmp_path, keep=2) as state:
        checkpoint = state.load_newest(lambda *_: None)
        assert checkpoint is not None
        ledger = cast("dict[str, JSON]", checkpoint.ledger)
        without = replace(checkpoint, ledger={**ledger, "kept": None})
        receipts = open_receipts(state, "images", Retention.SAMPLES, PolicyControls(POLICY), without, TTL)
    assert isinstance(receipts, LedgerReceipts)
    (first, *_) = read_entries(tmp_path / LEDGER)
    noted = cast("dict[str, JSON]", receipts.deadlines.snapshot())["arrived"]
    assert noted == [[pytest.approx(first.receipt.received_at, abs=0.01), 0, {"0": 0}]]


def test_an_audit_finds_samples_that_were_never_deleted(tmp_path: Path) -> None:
    run(tmp_path, 64)
    entries = list(read_entries(tmp_path / LEDGER))
    assert audit(entries, POLICY, now=time.time() + 50).passed
    assert not audit(entries, POLICY, now=time.time() + 150).passed
