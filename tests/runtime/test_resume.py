"""A run restored from a checkpoint continues as if it had never been interrupted."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lethe.checkpointing.checkpoint import Checkpoint, read_checkpoint
from lethe.checkpointing.checkpointer import Checkpointer
from lethe.checkpointing.state_folder import StateFolder, checkpoint_files
from lethe.drift.detector import BoundaryDetector
from lethe.errors import InvalidFile, InvalidSetting
from lethe.evaluation.evaluator import Evaluator
from lethe.evaluation.history import History
from lethe.events import Event, Resumed, ScoresUpdated, SegmentStarted
from lethe.ingest.batcher import Start
from lethe.ingest.memory_feed import Malformed
from lethe.learners.base import Learned, Learner, LearnerContext
from lethe.learners.finite import FiniteCheck
from lethe.learners.gradient.finetune import Finetune
from lethe.learners.registry import LEARNERS, create
from lethe.learners.state import State
from lethe.observability.run_state import RunState
from lethe.privacy.audit.receipt_writer import Receipts
from lethe.probeset import ProbeSet, save_probe
from lethe.runtime.loop import Loop
from lethe.runtime.persistence import Checkpoints, Persistence
from lethe.runtime.resume import check_fingerprint, fingerprint, restore, run_id, take_checkpoint
from lethe.settings import Settings
from lethe.stream.source import Position
from lethe.wire import Layout
from tests.support.feeds import LAYOUT, Gap, Item, ScriptedFeed, images, segment
from tests.support.runs import probe

PROBES = ("a", "b")
STREAM: Sequence[Item] = [
    *segment("a", 30),
    Malformed(),
    *segment("a", 21, seed=1),
    Gap(),
    *segment("b", 40, seed=2),
    Malformed(),
    Malformed(),
    *segment("a", 27, seed=3),
]


class Dice(Finetune):
    """A learner that draws from torch's generator, as dropout would."""

    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context)
        self.thrown = torch.zeros(3)

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        self.thrown += torch.rand(3)
        return Learned(torch.randint(0, 10, y_B.shape), None)

    def state(self) -> State:
        return State({"thrown": self.thrown}, {})

    def load_state(self, state: State) -> None:
        self.thrown.copy_(state.tensors["thrown"])


@pytest.fixture(autouse=True)
def same_dice() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # batches of 8 are learned faster by one
    with torch.random.fork_rng():
        torch.manual_seed(1)
        yield
    torch.set_num_threads(threads)


@dataclass
class Run:
    """The outcome of a run."""

    learner: Learner
    history: History
    run_state: RunState
    detector: BoundaryDetector
    events: list[Event]

    @property
    def outcome(self) -> Checkpoint:
        return take_checkpoint(
            Settings(),
            self.learner,
            self.history,
            self.run_state,
            Receipts(),
            Position({0: 0}),
            {},
            self.detector,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Run):
            return NotImplemented
        ours, theirs = self.outcome, other.outcome
        return (
            (ours.digest, ours.history, ours.counts) == (theirs.digest, theirs.history, theirs.counts)
            and ours.drift == theirs.drift
            and torch.equal(ours.random["cpu"], theirs.random["cpu"])
            and self.run_state.result().R == other.run_state.result().R
        )


def learn(
    kind: type[Finetune], folder: Path | None, checkpoint: Checkpoint | None = None, stop_after: int = 10**9
) -> Run:
    """Learn the stream from ``checkpoint``; with a folder, a checkpoint is due every 16 samples."""
    history = History(PROBES) if checkpoint is None else History.from_json(checkpoint.history)
    learner = kind(LearnerContext(LAYOUT))
    detector = BoundaryDetector.from_json(None if checkpoint is None else checkpoint.drift)
    run = Run(learner, history, RunState(Settings(), kind, history), detector, [])

    def emit(event: Event) -> None:
        run.events.append(event)
        run.run_state(event)

    if checkpoint is not None:
        restore(checkpoint, learner, history, emit)
    begin = 0 if checkpoint is None else checkpoint.position.offsets[0]
    ended = begin == len(STREAM)
    finite = FiniteCheck(learner)

    def taken(position: Position, unsettled: Mapping[str, int]) -> Checkpoint:
        return take_checkpoint(
            Settings(), learner, history, run.run_state, Receipts(), position, unsettled, detector
        )

    def create(persistence: Persistence | None) -> Loop:
        return Loop(
            feed=ScriptedFeed(STREAM[begin:]),
            learner=learner,
            evaluator=Evaluator([probe(name) for name in PROBES], subset=10, seed=0),
            evaluate_every=24,
            history=history,
            emit=emit,
            stopping=lambda: history.samples >= stop_after,
            persistence=persistence,
            start=None if checkpoint is None else Start(checkpoint.position, None),
            detector=detector,
            finite=finite,
        )

    if folder is None:
        create(None).run(ended)
        return run
    settings = Settings.read({"checkpoint": {"every_samples": 16, "keep": 1000}}).checkpoint
    with StateFolder(folder, settings.keep) as state:
        checkpointer = Checkpointer(state, settings, emit, lambda _: None)
        create(Checkpoints(checkpointer, taken, finite)).run(ended)
        checkpointer.close()
    return run


class WithNetwork(Finetune):
    """A learner with a user's network, with dropout and batch normalisation."""

    def __init__(self, context: LearnerContext) -> None:
        super().__init__(replace(context, options={"backbone": "tests.support.networks:both"}))


@pytest.mark.parametrize("kind", [Finetune, Dice, WithNetwork])
def test_continuing_from_any_checkpoint_ends_as_the_uninterrupted_run(
    kind: type[Finetune], tmp_path: Path
) -> None:
    whole = learn(kind, tmp_path)
    files = checkpoint_files(tmp_path)
    assert len(files) > 8
    for path in files:
        assert learn(kind, None, read_checkpoint(path)) == whole, path


def test_taking_checkpoints_does_not_change_the_learner(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        without = learn(Dice, None).outcome
    assert learn(Dice, tmp_path).outcome.digest == without.digest


@pytest.mark.parametrize("stop_after", [1, 8, 25, 51, 60, 1000])
def test_a_stopped_run_continues_at_the_same_record(stop_after: int, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        whole = learn(Dice, None).outcome
    stopped = learn(Dice, tmp_path, stop_after=stop_after)
    last = read_checkpoint(checkpoint_files(tmp_path)[-1])
    assert last.samples == stopped.history.samples < stop_after + 8
    assert learn(Dice, None, last).outcome.digest == whole.digest


def test_a_snapshot_does_not_change_when_learning_continues() -> None:
    run = learn(Finetune, None, stop_after=16)
    snapshot = run.outcome
    before = snapshot.digest
    x_BCHW, y_B = torch.zeros(4, *LAYOUT.shape, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    run.learner.learn(x_BCHW, y_B)
    assert run.outcome.digest != before
    assert snapshot.digest == before


def test_subscribers_receive_the_progress_of_the_run(tmp_path: Path) -> None:
    began = time.time()
    whole = learn(Finetune, tmp_path)
    checkpoint = read_checkpoint(checkpoint_files(tmp_path)[-1])
    events: list[Event] = []
    restore(
        checkpoint, Finetune(LearnerContext(LAYOUT)), History.from_json(checkpoint.history), events.append
    )
    resumed, started, measured = events
    assert isinstance(resumed, Resumed)
    assert resumed.progressed is not None
    assert began <= resumed.progressed <= time.time()
    assert resumed.lost_at is not None
    assert began <= resumed.lost_at <= time.time()
    prequential = whole.history.prequential
    counted = Resumed(
        received=121,
        learned=118,
        dead={"undecodable": 3},
        lost=1,
        prequential=prequential.cumulative,
        prequential_fading=prequential.fading,
    )
    assert replace(resumed, progressed=None, lost_at=None) == counted
    assert started == SegmentStarted("a", 3, whole.history.switches[-1].samples, resumed=True)
    assert isinstance(measured, ScoresUpdated)
    assert [list(row) for row in measured.R] == whole.run_state.result().R


def checkpoint_of(settings: Settings) -> Checkpoint:
    history = History([])
    learner = Finetune(LearnerContext(LAYOUT))
    run_state = RunState(settings, Finetune, history)
    return take_checkpoint(settings, learner, history, run_state, Receipts(), Position({0: 0}))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"learner": {"name": "ridge"}}, "learner.name was finetune, is ridge"),
        ({"learner": {"seed": 7}}, "learner.seed was 0, is 7"),
        ({"learner": {"options": {"lr": 0.1}}}, "learner.options.lr was 0.001, is 0.1"),
        ({"batch": {"size": 32}}, "batch.size was 64, is 32"),
        ({"sample": {"fit": "resize"}}, "sample.fit was refuse, is resize"),
        ({"sample": {"classes": 12}}, "sample.classes was 10, is 12"),
        ({"stream": {"topic": "others"}}, "stream.topic was images, is others"),
        ({"stream": {"rank": 1, "world": 2}}, "stream.rank was 0, is 1; stream.world was 1, is 2"),
        ({"evaluation": {"every": 10}}, "evaluation.every was 5000, is 10"),
        ({"evaluation": {"subset": 10}}, "evaluation.subset was 1000, is 10"),
        ({"evaluation": {"window": 5}}, "evaluation.window was 10, is 5"),
        ({"evaluation": {"min_segment": 5}}, "evaluation.min_segment was 32, is 5"),
    ],
)
def test_settings_that_would_change_learning_are_rejected_by_name(
    changed: dict[str, dict[str, Any]], said: str
) -> None:
    with pytest.raises(InvalidSetting, match=f"{said}; --fresh"):
        check_fingerprint(checkpoint_of(Settings()), Settings.read(changed))


def test_a_checkpoint_of_a_version_without_a_setting_counts_as_its_default() -> None:
    old = checkpoint_of(Settings())
    added = {"evaluation.min_segment", "sample.fit", "sample.formats"}
    fingerprint_then = {n: v for n, v in old.fingerprint.items() if n not in added}
    check_fingerprint(replace(old, fingerprint=fingerprint_then), Settings())
    with pytest.raises(InvalidSetting, match="min_segment was 32, is 5"):
        check_fingerprint(
            replace(old, fingerprint=fingerprint_then), Settings.read({"evaluation": {"min_segment": 5}})
        )


def test_an_option_that_another_version_did_not_have_is_a_difference() -> None:
    checkpoint = checkpoint_of(Settings())
    older = {name: value for name, value in checkpoint.fingerprint.items() if name != "learner.options.lr"}
    with pytest.raises(InvalidSetting, match=r"learner\.options\.lr was not set, is 0\.001; --fresh"):
        check_fingerprint(replace(checkpoint, fingerprint=older), Settings())


def folder_of_probes(folder: Path, *names: str, seed: int = 99) -> dict[str, dict[str, Any]]:
    x_NCHW, y_N = images(20, seed=seed)
    for order, name in enumerate(names):
        save_probe(ProbeSet(name, x_NCHW, y_N, "made up", "none needed"), folder, order)
    return {"evaluation": {"probes": folder}}


def test_changed_probes_are_rejected_by_name(tmp_path: Path) -> None:
    before = checkpoint_of(Settings.read(folder_of_probes(tmp_path / "before", "a", "b")))
    check_fingerprint(before, Settings.read(folder_of_probes(tmp_path / "copied", "a", "b")))
    for changed, said in [
        (folder_of_probes(tmp_path / "changed", "a", "b", seed=7), r"evaluation\.probes\.b was SHA-256"),
        (folder_of_probes(tmp_path / "more", "a", "b", "c"), r"evaluation\.probes\.c was not set"),
        ({}, r"evaluation\.probes\.a was SHA-256 \w+, is not set"),
    ]:
        with pytest.raises(InvalidSetting, match=said):
            check_fingerprint(before, Settings.read(changed))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"learner": {"threads": 3}}, "learner.threads was 1, is 3"),
        ({"batch": {"linger": 2.0}}, "batch.linger was 0.0, is 2.0"),
    ],
)
def test_settings_that_change_only_the_last_bits_are_a_warning(
    changed: dict[str, dict[str, Any]], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    check_fingerprint(checkpoint_of(Settings()), Settings())
    assert not caplog.records
    check_fingerprint(checkpoint_of(Settings()), Settings.read(changed))
    assert f"results are not reproducible bit for bit: {said}" in caplog.text


def test_a_run_is_identified_by_the_settings_of_its_learning() -> None:
    run = run_id(Settings())
    assert run_id(Settings.read({"evaluation": {"min_segment": 5}})) != run
    assert run_id(Settings.read({"learner": {"threads": 3}, "serve": {"port": 1}})) == run
    assert run_id(Settings.read({"learner": {"seed": 1}})) != run


def test_probes_in_another_order_are_another_run(tmp_path: Path) -> None:
    run = run_id(Settings.read(folder_of_probes(tmp_path / "before", "a", "b")))
    assert run_id(Settings.read(folder_of_probes(tmp_path / "copied", "a", "b"))) == run
    assert run_id(Settings.read(folder_of_probes(tmp_path / "turned", "b", "a"))) != run


@pytest.mark.parametrize(
    "changed",
    [
        {"learner": {"options": {"lr": 0.001}}},
        {"stream": {"bootstrap_servers": "elsewhere:9092", "group": "other", "stop_after": 5}},
        {"batch": {"slots": 3}},
        {"serve": {"port": 1}},
        {"checkpoint": {"every_seconds": 1.0, "keep": 9}},
    ],
)
def test_settings_that_do_not_affect_learning_may_change(changed: dict[str, dict[str, Any]]) -> None:
    check_fingerprint(checkpoint_of(Settings()), Settings.read(changed))


def test_the_fingerprint_survives_the_file(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=1) as folder:
        folder.write(checkpoint_of(Settings()))
    found = read_checkpoint(checkpoint_files(tmp_path)[0])
    assert found.fingerprint == fingerprint(Settings())
    check_fingerprint(found, Settings())


class Small(nn.Sequential):
    def __init__(self, layout: Layout, hidden: int = 4) -> None:
        super().__init__(nn.Flatten(), nn.Linear(layout.size, hidden), nn.Linear(hidden, layout.classes))


def test_another_network_under_the_same_name_is_rejected_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.runtime.test_resume.Backbone", Small, raising=False)
    context = LearnerContext(LAYOUT, options={"backbone": "tests.runtime.test_resume:Backbone"})
    before = replace(checkpoint_of(Settings()), learner=Finetune(context).state())
    restore(before, Finetune(context), History([]), lambda _: None)
    monkeypatch.setattr("tests.runtime.test_resume.Backbone", partial(Small, hidden=5))
    with pytest.raises(InvalidSetting) as refused:
        restore(before, Finetune(context), History([]), lambda _: None)
    assert "backbone: tests.runtime.test_resume:Backbone is not the network" in str(refused.value)
    assert f"1.weight was float32 (4, {LAYOUT.size}), is float32 (5, {LAYOUT.size})" in str(refused.value)
    monkeypatch.setattr(
        "tests.runtime.test_resume.Backbone", lambda layout: Small(layout).append(nn.Linear(10, 10))
    )
    with pytest.raises(InvalidSetting, match=r"3\.weight was not there, is float32 \(10, 10\)"):
        restore(before, Finetune(context), History([]), lambda _: None)


@pytest.mark.parametrize("name", sorted(LEARNERS.keys() - {"experts"}))  # it has no tensors yet
def test_a_state_that_does_not_fit_the_learner_is_rejected_with_a_reason(name: str) -> None:
    learner = create(name, LearnerContext(LAYOUT))
    before = replace(checkpoint_of(Settings()), learner=State({"weights": torch.zeros(2)}, {}))
    with pytest.raises((InvalidFile, InvalidSetting), match=r"learner|backbone"):
        restore(before, learner, History([]), lambda _: None)
