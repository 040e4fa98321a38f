"""A run taken apart and put together again: it goes on as if nothing had happened."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from service.batching import Start
from service.checkpoint import Checkpoint, read_checkpoint
from service.checkpointer import Checkpointer
from service.drift.watch import Watch
from service.errors import InvalidSetting
from service.evaluation.evaluator import Evaluator
from service.evaluation.history import History
from service.events import Event, Measured, Resumed, SegmentStarted
from service.journal import Journal
from service.learners.base import Learned, Learner, LearnerContext, State
from service.learners.finetune import Finetune
from service.loop import Loop
from service.probeset import ProbeSet, save_probe
from service.resume import check_fingerprint, fingerprint, restore, run_id, take
from service.settings import Settings
from service.state_folder import StateFolder, checkpoint_files
from service.stream.source import Position
from tests.feeds import LAYOUT, Dead, Gap, Item, MemoryFeed, images, segment
from tests.runs import probe

PROBES = ("a", "b")
STREAM: Sequence[Item] = [
    *segment("a", 30),
    Dead(),
    *segment("a", 21, seed=1),
    Gap(),
    *segment("b", 40, seed=2),
    Dead(),
    Dead(),
    *segment("a", 27, seed=3),
]


class Dice(Finetune):
    """Learns what torch's generator says, as dropout would."""

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
    """What a run came to."""

    learner: Learner
    history: History
    journal: Journal
    watch: Watch
    events: list[Event]

    @property
    def outcome(self) -> Checkpoint:
        return take(Settings(), self.learner, self.history, self.journal, None, Position({0: 0}), self.watch)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Run):
            return NotImplemented
        ours, theirs = self.outcome, other.outcome
        return (
            (ours.digest, ours.history, ours.counts) == (theirs.digest, theirs.history, theirs.counts)
            and ours.drift == theirs.drift
            and torch.equal(ours.random["cpu"], theirs.random["cpu"])
            and self.journal.result().R == other.journal.result().R
        )


def learn(
    kind: type[Finetune], folder: Path | None, checkpoint: Checkpoint | None = None, stop_after: int = 10**9
) -> Run:
    """Learn the stream from ``checkpoint`` on; with a folder, a checkpoint is due every 16 samples."""
    history = History(PROBES) if checkpoint is None else History.from_json(checkpoint.history)
    learner = kind(LearnerContext(LAYOUT))
    watch = Watch.going_on(None if checkpoint is None else checkpoint.drift)
    run = Run(learner, history, Journal(Settings(), kind, history), watch, [])

    def emit(event: Event) -> None:
        run.events.append(event)
        run.journal(event)

    if checkpoint is not None:
        restore(checkpoint, learner, history, emit)
    begin = 0 if checkpoint is None else checkpoint.position.offsets[0]
    ended = begin == len(STREAM)
    loop = Loop(
        feed=MemoryFeed(STREAM[begin:]),
        learner=learner,
        evaluator=Evaluator([probe(name) for name in PROBES], subset=10, seed=0),
        evaluate_every=24,
        history=history,
        emit=emit,
        stopping=lambda: history.samples >= stop_after,
        take=lambda position: take(Settings(), learner, history, run.journal, None, position, watch),
        start=None if checkpoint is None else Start(checkpoint.position, None),
        watch=watch,
    )
    if folder is None:
        loop.run(ended)
        return run
    settings = Settings.read({"checkpoint": {"every_samples": 16, "keep": 1000}}).checkpoint
    with StateFolder(folder, settings.keep) as state:
        loop.checkpointer = Checkpointer(state, settings, emit, lambda _: None)
        loop.run(ended)
        loop.checkpointer.close()
    return run


@pytest.mark.parametrize("kind", [Finetune, Dice])
def test_going_on_from_any_checkpoint_ends_where_the_uninterrupted_run_does(
    kind: type[Finetune], tmp_path: Path
) -> None:
    whole = learn(kind, tmp_path)
    files = checkpoint_files(tmp_path)
    assert len(files) > 8
    for path in files:
        assert learn(kind, None, read_checkpoint(path)) == whole, path


def test_taking_checkpoints_does_not_change_what_is_learned(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        without = learn(Dice, None).outcome
    assert learn(Dice, tmp_path).outcome.digest == without.digest


@pytest.mark.parametrize("stop_after", [1, 8, 25, 51, 60, 1000])
def test_a_run_that_was_asked_to_stop_goes_on_from_where_it_stopped(stop_after: int, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        whole = learn(Dice, None).outcome
    stopped = learn(Dice, tmp_path, stop_after=stop_after)
    last = read_checkpoint(checkpoint_files(tmp_path)[-1])
    assert last.samples == stopped.history.samples < stop_after + 8
    assert learn(Dice, None, last).outcome.digest == whole.digest


def test_a_snapshot_does_not_change_when_learning_goes_on() -> None:
    run = learn(Finetune, None, stop_after=16)
    snapshot = run.outcome
    before = snapshot.digest
    x_BCHW, y_B = torch.zeros(4, *LAYOUT.shape, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    run.learner.learn(x_BCHW, y_B)
    assert run.outcome.digest != before
    assert snapshot.digest == before


def test_whoever_listens_is_told_where_the_run_stands(tmp_path: Path) -> None:
    began = time.time()
    whole = learn(Finetune, tmp_path)
    checkpoint = read_checkpoint(checkpoint_files(tmp_path)[-1])
    told: list[Event] = []
    restore(checkpoint, Finetune(LearnerContext(LAYOUT)), History.from_json(checkpoint.history), told.append)
    resumed, started, measured = told
    assert isinstance(resumed, Resumed)
    assert resumed.progressed is not None
    assert began <= resumed.progressed <= time.time()
    assert resumed.lost_at is not None
    assert began <= resumed.lost_at <= time.time()
    counted = Resumed(received=121, learned=118, dead={"undecodable": 3}, lost=1)
    assert replace(resumed, progressed=None, lost_at=None) == counted
    assert started == SegmentStarted("a", 3, whole.history.switches[-1].samples, resumed=True)
    assert isinstance(measured, Measured)
    assert [list(row) for row in measured.R] == whole.journal.result().R


def checkpoint_of(settings: Settings) -> Checkpoint:
    history = History([])
    learner = Finetune(LearnerContext(LAYOUT))
    return take(settings, learner, history, Journal(settings, Finetune, history), None, Position({0: 0}))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"learner": {"name": "ridge"}}, "learner.name was finetune, is ridge"),
        ({"learner": {"seed": 7}}, "learner.seed was 0, is 7"),
        ({"learner": {"options": {"lr": 0.1}}}, "learner.options.lr was 0.001, is 0.1"),
        ({"batch": {"size": 32}}, "batch.size was 64, is 32"),
        ({"sample": {"classes": 12}}, "sample.classes was 10, is 12"),
        ({"stream": {"topic": "others"}}, "stream.topic was images, is others"),
        ({"stream": {"rank": 1, "world": 2}}, "stream.rank was 0, is 1; stream.world was 1, is 2"),
        ({"evaluation": {"every": 10}}, "evaluation.every was 5000, is 10"),
        ({"evaluation": {"subset": 10}}, "evaluation.subset was 1000, is 10"),
        ({"evaluation": {"window": 5}}, "evaluation.window was 10, is 5"),
    ],
)
def test_settings_that_change_what_is_learned_are_refused_by_name(
    changed: dict[str, dict[str, Any]], said: str
) -> None:
    with pytest.raises(InvalidSetting, match=f"{said}; --fresh"):
        check_fingerprint(checkpoint_of(Settings()), Settings.read(changed))


def test_an_option_that_another_version_did_not_have_is_a_difference() -> None:
    checkpoint = checkpoint_of(Settings())
    older = {name: value for name, value in checkpoint.fingerprint.items() if name != "learner.options.lr"}
    with pytest.raises(InvalidSetting, match=r"learner\.options\.lr was not there, is 0\.001; --fresh"):
        check_fingerprint(replace(checkpoint, fingerprint=older), Settings())


def folder_of_probes(folder: Path, *names: str, seed: int = 99) -> dict[str, dict[str, Any]]:
    x_NCHW, y_N = images(20, seed=seed)
    for order, name in enumerate(names):
        save_probe(ProbeSet(name, x_NCHW, y_N, "made up", "none needed"), folder, order)
    return {"evaluation": {"probes": folder}}


def test_probes_that_became_others_are_refused_by_name(tmp_path: Path) -> None:
    before = checkpoint_of(Settings.read(folder_of_probes(tmp_path / "before", "a", "b")))
    check_fingerprint(before, Settings.read(folder_of_probes(tmp_path / "copied", "a", "b")))
    for changed, said in [
        (folder_of_probes(tmp_path / "changed", "a", "b", seed=7), r"evaluation\.probes\.b was SHA-256"),
        (folder_of_probes(tmp_path / "more", "a", "b", "c"), r"evaluation\.probes\.c was not there"),
        ({}, r"evaluation\.probes\.a was SHA-256 \w+, is not there"),
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
def test_what_only_the_last_bits_show_may_change_and_is_said(
    changed: dict[str, dict[str, Any]], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    check_fingerprint(checkpoint_of(Settings()), Settings())
    assert not caplog.records
    check_fingerprint(checkpoint_of(Settings()), Settings.read(changed))
    assert f"not bit for bit what it would have been: {said}" in caplog.text


def test_a_run_is_known_by_what_it_learns() -> None:
    run = run_id(Settings())
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
def test_settings_that_change_nothing_of_that_may_change(changed: dict[str, dict[str, Any]]) -> None:
    check_fingerprint(checkpoint_of(Settings()), Settings.read(changed))


def test_the_fingerprint_survives_the_file(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=1) as folder:
        folder.write(checkpoint_of(Settings()))
    found = read_checkpoint(checkpoint_files(tmp_path)[0])
    assert found.fingerprint == fingerprint(Settings())
    check_fingerprint(found, Settings())
