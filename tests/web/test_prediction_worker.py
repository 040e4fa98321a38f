"""Predictions come from a recent snapshot of the learner and do not delay learning."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from lethe.errors import MalformedRecord
from lethe.events import (
    BatchLearned,
    CheckpointFailed,
    CheckpointWritten,
    ClassesNamed,
    Evaluated,
    LoopTurned,
    Resumed,
)
from lethe.learners.analytic.ridge import Ridge
from lethe.learners.base import LearnerContext
from lethe.learners.gradient.finetune import Finetune
from lethe.learners.predictor import Predictor
from lethe.web.prediction_worker import (
    MAX_SLOW_PREDICTIONS,
    MAX_WAITING,
    QUICK_SECONDS,
    NoClassYet,
    PredictionWorker,
    QueueFull,
)
from lethe.web.predictor_snapshots import PredictorSnapshots
from lethe.wire import Layout, Pixels

CONTEXT = LearnerContext(Layout(height=8, width=8, classes=3))


class Run:
    """A learner, its snapshots, and a clock that the test advances."""

    def __init__(self, kind: type[Finetune] | type[Ridge] = Finetune) -> None:
        self.now = 0.0
        self.learner = kind(CONTEXT)
        self.snapshots = PredictorSnapshots(self.learner, lambda: self.now)

    def learn(self, samples: int, seconds: float) -> None:
        x_BCHW = torch.from_numpy(noise(samples))
        self.learner.learn(x_BCHW, torch.arange(samples) % 3)
        self.now += seconds
        self.snapshots(BatchLearned(samples, samples, 0, None, seconds, seconds, seconds, None, None))
        self.snapshots(LoopTurned(0))

    @property
    def version(self) -> int:
        return self.snapshots.latest[1]


def noise(images: int) -> Pixels:
    return np.random.default_rng(images).integers(0, 256, (images, 1, 8, 8), np.uint8)


@pytest.fixture
def predictions() -> Iterator[PredictionWorker]:
    with PredictionWorker(Run().snapshots, CONTEXT.layout) as predictions:
        predictions.submit(lambda: noise(1)).result(60)  # the blank image has been predicted, too
        yield predictions


def test_a_snapshot_is_renewed_at_most_once_a_second() -> None:
    run = Run()
    assert run.version == 0
    run.learn(8, seconds=0.4)
    run.learn(8, seconds=0.4)
    assert run.version == 0
    run.learn(8, seconds=0.4)
    assert run.version == 24
    run.learn(8, seconds=0.9)
    assert run.version == 24


def test_only_classes_that_have_appeared_are_predicted() -> None:
    learner = Finetune(CONTEXT)
    snapshots = PredictorSnapshots(learner, restrict=0)
    with PredictionWorker(snapshots, CONTEXT.layout) as predictions:
        with pytest.raises(NoClassYet):
            predictions.submit(lambda: noise(2)).result(60)
        snapshots(ClassesNamed(("cat", "dog")))
        snapshots(Resumed(received=0, learned=0, dead={}, lost=0))  # renews the snapshot
        p_BK = predictions.submit(lambda: noise(2)).result(60).p_BK
    assert p_BK.shape == (2, 2)
    np.testing.assert_allclose(p_BK.sum(axis=1), 1, rtol=1e-5)
    own_BK = learner.predict_proba(torch.from_numpy(noise(2))).numpy()
    assert (p_BK.argmax(1) == own_BK[:, :2].argmax(1)).all()


def test_a_product_of_vectors_is_repeated_with_zeros_as_it_keeps_a_copy_of_its_input() -> None:
    layout, seen = Layout(features=4, classes=2), list[list[list[float]]]()

    def answer(x_BF: Tensor) -> Tensor:
        seen.append(x_BF.tolist())
        return torch.full((len(x_BF), 2), 0.5)

    class Vectors(Finetune):
        def predictor(self) -> Predictor:
            return Predictor(answer)

    snapshots = PredictorSnapshots(Vectors(LearnerContext(layout)))
    with PredictionWorker(snapshots, layout) as predictions:
        predictions.submit(lambda: np.ones((3, 4), np.float32)).result(60)
    assert seen[-2:] == [[[1.0] * 4] * 3, [[0.0] * 4] * 3]


def test_an_up_to_date_snapshot_is_not_renewed() -> None:
    run = Run()
    before = run.snapshots.latest
    run.now += 100
    run.snapshots(LoopTurned(0))
    assert run.snapshots.latest is before


def test_with_commit_first_a_snapshot_is_published_when_its_checkpoint_is_written() -> None:
    run = Run()
    run.snapshots = PredictorSnapshots(run.learner, lambda: run.now, commit_first=True)
    run.learn(8, seconds=20)
    run.snapshots.hold()
    expected = run.learner.predict_proba(torch.from_numpy(noise(3)))
    run.learn(8, seconds=20)
    assert run.version == 0, "no checkpoint is on the disk"
    run.snapshots(CheckpointWritten(8, 1000, 0.1))
    assert run.version == 8
    torch.testing.assert_close(run.snapshots.latest[0].predict_proba(torch.from_numpy(noise(3))), expected)
    run.snapshots(CheckpointFailed("no space left"))
    run.learn(8, seconds=20)
    assert run.version == 8


def test_after_a_restart_the_version_continues() -> None:
    run = Run()
    run.snapshots(Resumed(640, 600, {}, 0))
    assert run.version == 600
    run.learn(8, seconds=2)
    assert run.version == 608


def test_samples_of_an_outstanding_solve_do_not_count_in_the_version() -> None:
    run = Run(Ridge)
    for _ in range(8):
        run.learn(8, seconds=2)
    assert run.version == 64, "the first solve is due"
    run.learn(8, seconds=2)
    assert run.version == 64
    run.learner.predict_proba(torch.from_numpy(noise(1)))
    run.snapshots(Evaluated(72, {}, False, 0, None, False, 0.1))
    assert run.version == 72


def test_a_prediction_is_the_learners_and_names_its_version() -> None:
    run = Run()
    run.learn(8, seconds=2)
    with PredictionWorker(run.snapshots, CONTEXT.layout) as predictions:
        answer = predictions.submit(lambda: noise(5)).result(60)
    assert answer.samples == 8
    expected = run.learner.predict_proba(torch.from_numpy(noise(5))).numpy()
    np.testing.assert_allclose(answer.p_BK, expected, atol=1e-6)


class Listening(Finetune):
    """A predictor that records the number of images of each call."""

    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context)
        self.asked: list[int] = []

    def predictor(self) -> Predictor:
        copied = super().predictor()

        def answer(x_BCHW: Tensor) -> Tensor:
            self.asked.append(len(x_BCHW))
            return copied.answer(x_BCHW)

        return Predictor(answer)


def test_a_learner_is_initialised_for_prediction_before_the_first_request() -> None:
    learner = Listening(CONTEXT)
    with PredictionWorker(PredictorSnapshots(learner), CONTEXT.layout) as predictions:
        predictions.submit(lambda: noise(2)).result(60)
    assert learner.asked == [1, 2]


def test_predicting_uses_one_thread_and_leaves_the_learner_its_own() -> None:
    seen: list[int] = []

    def read() -> Pixels:
        seen.append(torch.get_num_threads())
        return noise(1)

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with PredictionWorker(Run().snapshots, CONTEXT.layout) as predictions:
            predictions.submit(read).result(60)
            assert (seen, torch.get_num_threads()) == ([1], 3)
    finally:
        torch.set_num_threads(before)


def test_a_short_prediction_is_computed_on_the_calling_thread(predictions: PredictionWorker) -> None:
    seen: list[threading.Thread] = []

    def read() -> Pixels:
        seen.append(threading.current_thread())
        return noise(2)

    with ThreadPoolExecutor(1) as asker:  # on the test's own thread it would fix the number of threads
        answer = asker.submit(predictions.predict_now, read).result(60)
        assert asker.submit(threading.current_thread).result(60) in seen
    assert answer is not None
    np.testing.assert_array_equal(answer.p_BK, predictions.submit(lambda: noise(2)).result(60).p_BK)


def test_a_request_during_another_one_has_to_be_submitted(predictions: PredictionWorker) -> None:
    go_on, reading = threading.Event(), threading.Event()

    def slowly() -> Pixels:
        reading.set()
        assert go_on.wait(60)
        return noise(1)

    with ThreadPoolExecutor(1) as asker:
        first = predictions.submit(slowly)
        assert reading.wait(60)
        assert asker.submit(predictions.predict_now, lambda: noise(1)).result(60) is None
        go_on.set()
        first.result(60)
        assert asker.submit(predictions.predict_now, lambda: noise(1)).result(60) is not None


def test_after_slow_predictions_none_is_computed_on_the_calling_thread(predictions: PredictionWorker) -> None:
    def computing() -> Pixels:
        until = time.thread_time() + 2 * QUICK_SECONDS
        while time.thread_time() < until:
            pass
        return noise(1)

    with ThreadPoolExecutor(1) as asker:
        for read in [
            *[computing] * (MAX_SLOW_PREDICTIONS - 1),
            lambda: noise(1),
            *[computing] * MAX_SLOW_PREDICTIONS,
        ]:
            assert asker.submit(predictions.predict_now, read).result(60) is not None
        assert asker.submit(predictions.predict_now, lambda: noise(1)).result(60) is None
    assert predictions.submit(lambda: noise(1)).result(60).p_BK.shape == (1, 3)


def test_an_unreadable_image_does_not_block_the_next_prediction(predictions: PredictionWorker) -> None:
    def unreadable() -> Pixels:
        raise MalformedRecord("undecodable", "not a PNG")

    with ThreadPoolExecutor(1) as asker:
        with pytest.raises(MalformedRecord):
            asker.submit(predictions.predict_now, unreadable).result(60)
        assert asker.submit(predictions.predict_now, lambda: noise(1)).result(60) is not None


def test_a_request_is_rejected_while_the_queue_is_full_and_served_later(
    predictions: PredictionWorker,
) -> None:
    go_on = threading.Event()

    def slowly() -> Pixels:
        assert go_on.wait(60)
        return noise(1)

    waiting = [predictions.submit(slowly) for _ in range(MAX_WAITING)]
    with pytest.raises(QueueFull):
        predictions.submit(slowly)
    go_on.set()
    assert all(future.result(60).p_BK.shape == (1, 3) for future in waiting)
    assert predictions.submit(slowly).result(60).samples == 0


def test_an_unreadable_image_fails_its_own_request_only(predictions: PredictionWorker) -> None:
    def unreadable() -> Pixels:
        raise MalformedRecord("undecodable", "not a PNG")

    with pytest.raises(MalformedRecord):
        predictions.submit(unreadable).result(60)
    assert predictions.submit(lambda: noise(2)).result(60).p_BK.shape == (2, 3)
