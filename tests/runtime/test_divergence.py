"""A learner that diverges: its state is neither saved, measured nor served, and a run can be rolled back."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from torch import Tensor

from lethe.checkpointing.checkpoint import read_checkpoint, read_samples
from lethe.checkpointing.checkpointer import Checkpointer
from lethe.checkpointing.state_folder import StateFolder, checkpoint_files
from lethe.errors import DivergedLoss, InvalidFile, PositionLost
from lethe.evaluation.evaluator import Evaluator
from lethe.evaluation.history import History
from lethe.events import BatchLearned, Evaluated, Event, LoopTurned
from lethe.ingest.batcher import Start
from lethe.ingest.feed import Batch
from lethe.ingest.messages import BrokerState
from lethe.learners.analytic.ridge import Ridge
from lethe.learners.base import LearnerContext
from lethe.learners.finite import FiniteCheck
from lethe.learners.gradient.base import Step
from lethe.learners.gradient.finetune import Finetune
from lethe.learners.predictor import Predictor
from lethe.learners.state import State
from lethe.observability.run_state import RunState
from lethe.privacy.audit.receipt_writer import Receipts
from lethe.privacy.status import PolicyStatus
from lethe.runtime.loop import Loop
from lethe.runtime.persistence import Checkpoints
from lethe.runtime.resume import restore, take_checkpoint
from lethe.settings import Settings
from lethe.web.app import create_app
from lethe.web.predict import PredictEndpoint
from lethe.web.prediction_worker import NonFinitePrediction, PredictionWorker
from lethe.web.predictor_snapshots import PredictorSnapshots
from lethe.web.server import Server
from lethe.wire import RAW
from tests.support.checkpoints import checkpoint
from tests.support.feeds import LAYOUT, ScriptedFeed, segment
from tests.support.runs import probe

pytestmark = pytest.mark.usefixtures("one_thread")

CONTEXT = LearnerContext(LAYOUT, options={"backbone": "mlp"})
STREAM = segment("a", 96)
Poison = Callable[[Tensor], None]


class Diverging(Finetune):
    """A learner whose step at ``at`` samples leaves ``left`` in a weight, after a finite loss."""

    at = 64
    left = math.nan

    def _after_step(self, step: Step) -> None:
        super()._after_step(step)
        if self._seen == self.at:
            next(iter(self._parameters.values())).detach().view(-1)[7] = self.left


class Infinite(Diverging):
    left = -math.inf


class Failing(ScriptedFeed):
    def next(self, timeout: float) -> Batch | BrokerState | None:
        raise PositionLost("the records are gone")


def run(
    folder: Path,
    kind: type[Finetune] = Diverging,
    samples: int = len(STREAM),
    every: int = 16,
    feed: ScriptedFeed | None = None,
    evaluated: int = 10**6,
) -> list[Event]:
    """Learn ``samples`` samples of the stream from the newest checkpoint; return the events."""
    learner, events = kind(CONTEXT), list[Event]()
    settings = Settings.read({"checkpoint": {"every_samples": every}})
    with StateFolder(folder, keep=3) as state:
        checkpoint = state.load_newest(lambda path, error: pytest.fail(f"{path}: {error}"))
        history = History(["a"]) if checkpoint is None else History.from_json(checkpoint.history)
        run_state = RunState(settings, kind, history)
        feed, start = feed or ScriptedFeed(STREAM[history.samples : samples]), None
        if checkpoint is not None:
            restore(checkpoint, learner, history, events.append)
            start = Start(checkpoint.position, None)
            feed.go_on(checkpoint.position)
        checkpointer = Checkpointer(
            state, settings.checkpoint, events.append, lambda _: None, samples=history.samples
        )
        finite = FiniteCheck(learner)
        taking = partial(take_checkpoint, settings, learner, history, run_state, Receipts())
        loop = Loop(
            feed=feed,
            learner=learner,
            evaluator=Evaluator([probe("a")], subset=10, seed=0),
            evaluate_every=evaluated,
            history=history,
            emit=events.append,
            stopping=lambda: False,
            persistence=Checkpoints(checkpointer, taking, finite),
            finite=finite,
            start=start,
        )
        try:
            loop.run(ended=history.samples >= samples)
        finally:
            checkpointer.close()
    return events


def at_samples(folder: Path) -> list[int]:
    return [read_samples(path) for path in checkpoint_files(folder)]


def all_finite(folder: Path) -> bool:
    states = [read_checkpoint(path).learner.tensors for path in checkpoint_files(folder)]
    return all(bool(tensor.isfinite().all()) for tensors in states for tensor in tensors.values())


@pytest.mark.parametrize("kind", [Diverging, Infinite])
@pytest.mark.parametrize("every", [8, 16, 10**6])
def test_non_finite_weights_after_the_last_step_end_the_run_and_are_not_saved(
    kind: type[Finetune], every: int, tmp_path: Path
) -> None:
    with pytest.raises(DivergedLoss, match=r"not finite: model\.1\.weight"):
        run(tmp_path, kind, samples=Diverging.at, every=every)
    assert all_finite(tmp_path)
    assert at_samples(tmp_path) == {8: [40, 48, 56], 16: [16, 32, 48], 10**6: []}[every]


def test_non_finite_weights_are_not_evaluated(tmp_path: Path) -> None:
    events: list[Event] = []
    with pytest.raises(DivergedLoss, match=r"not finite: model\.1\.weight"):
        events += run(tmp_path, evaluated=Diverging.at)
    assert not any(isinstance(event, Evaluated) and event.samples == Diverging.at for event in events)


@pytest.mark.parametrize("evaluated", [10**6, 32])
def test_any_number_of_restarts_keeps_the_good_checkpoints(evaluated: int, tmp_path: Path) -> None:
    with pytest.raises(DivergedLoss):
        run(tmp_path, evaluated=evaluated)
    before = {path.name: path.read_bytes() for path in checkpoint_files(tmp_path)}
    assert at_samples(tmp_path) == [16, 32, 48]
    for _ in range(4):
        with pytest.raises(DivergedLoss):
            run(tmp_path, evaluated=evaluated)
    assert {path.name: path.read_bytes() for path in checkpoint_files(tmp_path)} == before


def test_repeated_failures_at_the_same_sample_delete_no_older_checkpoint(tmp_path: Path) -> None:
    run(tmp_path, Finetune, samples=48)
    assert at_samples(tmp_path) == [16, 32, 48]
    for _ in range(4):
        with pytest.raises(PositionLost):
            run(tmp_path, Finetune, feed=Failing(STREAM))
    assert at_samples(tmp_path) == [16, 32, 48]
    for _ in range(4):
        run(tmp_path, Finetune, samples=56)
    assert at_samples(tmp_path) == [32, 48, 56]


def test_a_batch_whose_loss_is_not_finite_leaves_no_checkpoint_behind(tmp_path: Path) -> None:
    class Overflowing(Finetune):
        def _forward(self, pixels_BCHW: Tensor, y_B: Tensor, samples: int) -> Step:
            step = super()._forward(pixels_BCHW, y_B, samples)
            return replace(step, loss=step.loss / float(self._seen < 64))

    for _ in range(5):
        with pytest.raises(DivergedLoss, match="cross entropy inf"):
            run(tmp_path, Overflowing)
        assert at_samples(tmp_path) == [32, 48, 64]


def test_a_non_finite_checkpoint_is_skipped_for_the_previous_one(tmp_path: Path) -> None:
    finite = FiniteCheck(Finetune(CONTEXT))
    with StateFolder(tmp_path, keep=3) as folder:
        folder.write(checkpoint(64))
        folder.write(checkpoint(128, torch.tensor([[1.0, math.nan]])))
        passed: list[str] = []
        found = folder.load_newest(
            lambda _, error: passed.append(str(error)),
            flaw=lambda taken: ", ".join(finite.offenders_of(taken.learner)),
        )
        assert found is not None
        assert found.samples == 64
        assert passed == [f"{tmp_path}/checkpoint-000000000002.safetensors cannot be resumed from: weights"]
        with pytest.raises(InvalidFile, match=r"none of the 1 checkpoints .* can be read: .*: no good"):
            folder.load_newest(lambda *_: None, flaw=lambda _: "no good")


class Masked(Finetune):
    """A learner that holds minus infinities from the beginning, as a network's mask may."""

    mask = torch.tensor([0.0, -math.inf])
    marks = 0

    def state(self) -> State:
        state = super().state()
        return State({**state.tensors, "mask": self.mask}, state.values)


def test_tensors_that_were_not_finite_at_first_may_stay_so() -> None:
    learner = Masked(CONTEXT)
    finite = FiniteCheck(learner)
    assert finite.offenders() == []
    next(iter(learner._parameters.values())).detach()[0] = math.inf
    assert finite.offenders() == ["model.1.weight"]
    with pytest.raises(DivergedLoss, match=r"tensors that are not finite: model\.1\.weight$"):
        finite.require()


def test_large_numbers_whose_sum_overflows_are_finite() -> None:
    learner = Finetune(CONTEXT)
    finite = FiniteCheck(learner)
    next(iter(learner._parameters.values())).detach().fill_(3e38)
    assert finite.offenders() == []


def test_integers_are_finite_and_unchanged_tensors_are_not_checked_again() -> None:
    class Marked(Ridge):
        mark = object()

        def state(self) -> State:
            state = super().state()
            marks = dict.fromkeys(state.tensors, self.mark)
            return State(state.tensors, state.values, marks=marks)

    learner = Marked(LearnerContext(LAYOUT))
    finite = FiniteCheck(learner)
    assert finite.offenders() == []
    spoilt = next(tensor for tensor in learner.state().tensors.values() if tensor.is_floating_point())
    spoilt.view(-1)[0] = math.nan
    assert finite.offenders() == []  # its mark says that no bit has changed
    learner.mark = object()
    assert len(finite.offenders()) == 1
    assert len(finite.offenders()) == 1, "a mark makes nothing good"


def test_before_predictions_only_the_tensors_that_predict_are_checked() -> None:
    learner = Ridge(LearnerContext(LAYOUT))
    finite = FiniteCheck(learner)
    learner.learn(*(torch.from_numpy(array) for array in _batch(0)))
    learner.predict_proba(torch.zeros(1, *LAYOUT.shape, dtype=torch.uint8))
    learner.state().tensors["W"].view(-1)[0] = math.nan
    assert finite.offenders(predicting=True) == []
    assert finite.offenders() == ["W"]
    learner.state().solved["W"][0] = math.nan
    assert finite.offenders(predicting=True) == ["W"]


def test_predictions_come_from_the_last_copy_that_was_finite() -> None:
    learner = Diverging(CONTEXT)
    seconds = [0.0]
    snapshots = PredictorSnapshots(learner, lambda: seconds[0])
    x_BCHW = torch.zeros(2, *LAYOUT.shape, dtype=torch.uint8)
    for step in range(12):
        learner.learn(*(torch.from_numpy(array) for array in _batch(step)))
        snapshots(BatchLearned(8, 8, 0, 1.0, 0.1, 0.1, 0.1, 0.1, 0.1))
        seconds[0] += 10
        snapshots(LoopTurned(0))
        if step >= 7:
            break
    predictor, samples = snapshots.latest
    assert samples == 56
    assert bool(predictor.predict_proba(x_BCHW).isfinite().all())


def _batch(seed: int) -> tuple[np.ndarray, np.ndarray]:
    drawn = np.random.default_rng(seed)
    return drawn.integers(0, 256, (8, *LAYOUT.shape), np.uint8), drawn.integers(0, 10, 8)


class Spoilt(PredictorSnapshots):
    """A learner that predicts NaN although every weight is finite, because numbers overflow on the way."""

    def _renew(self) -> None:
        super()._renew()
        self.latest = Predictor(lambda x_BCHW: torch.full((len(x_BCHW), 10), math.nan)), 0


def _app(predictions: PredictionWorker) -> FastAPI:
    predict = PredictEndpoint(predictions, "finetune", LAYOUT, 10**6)
    return create_app(
        RunState(Settings(), Finetune, History([])), CollectorRegistry(), "1", PolicyStatus(), predict, None
    )


def test_a_prediction_that_is_not_finite_is_an_error_with_a_reason_and_never_null() -> None:
    with PredictionWorker(Spoilt(Finetune(CONTEXT)), LAYOUT) as predictions:
        with pytest.raises(NonFinitePrediction):
            predictions.submit(lambda: np.zeros((1, *LAYOUT.shape), np.uint8)).result(30)
        with Server(_app(predictions), "127.0.0.1", 0) as server:
            headers = {"content-type": RAW, "dtype": "uint8", "shape": ",".join(map(str, LAYOUT.shape))}
            for _ in range(2):
                answer = httpx.post(f"{server.address}/predict", content=bytes(LAYOUT.size), headers=headers)
                assert answer.status_code == 503
                assert answer.json() == {"detail": "the prediction is not finite: the learner has diverged"}


def test_predictions_that_are_not_finite_are_not_scored() -> None:
    class Overflowing(Finetune):
        def predict_proba(self, x_BCHW: Tensor) -> Tensor:
            return super().predict_proba(x_BCHW) * math.nan

    with pytest.raises(DivergedLoss, match="predictions on the probe a are not finite"):
        Evaluator([probe("a")], subset=10, seed=0).evaluate(Overflowing(CONTEXT), full=False)
