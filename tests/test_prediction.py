"""Predictions come from a recent copy of the learner, and never make the learner wait."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from service.errors import MalformedRecord
from service.events import BatchLearned, Evaluated, Resumed, Turned
from service.learners.base import LearnerContext
from service.learners.finetune import Finetune
from service.learners.predictor import Predictor
from service.learners.ridge import Ridge
from service.prediction import MOST_SLOW, MOST_WAITING, QUICK_SECONDS, Busy, Predictions, Snapshots
from service.wire import Layout, Pixels

CONTEXT = LearnerContext(Layout(height=8, width=8, classes=3))


class Run:
    """A learner, its copies, and a clock that goes when told to."""

    def __init__(self, kind: type[Finetune] | type[Ridge] = Finetune) -> None:
        self.now = 0.0
        self.learner = kind(CONTEXT)
        self.snapshots = Snapshots(self.learner, lambda: self.now)

    def learn(self, samples: int, seconds: float) -> None:
        x_BCHW = torch.from_numpy(noise(samples))
        self.learner.learn(x_BCHW, torch.arange(samples) % 3)
        self.now += seconds
        self.snapshots(BatchLearned(samples, samples, 0, None, seconds, seconds, seconds, None, None))
        self.snapshots(Turned(0))

    @property
    def version(self) -> int:
        return self.snapshots.latest[1]


def noise(images: int) -> Pixels:
    return np.random.default_rng(images).integers(0, 256, (images, 1, 8, 8), np.uint8)


@pytest.fixture
def predictions() -> Iterator[Predictions]:
    with Predictions(Run().snapshots, CONTEXT.layout) as predictions:
        predictions.submit(lambda: noise(1)).result(10)  # the blank image has been answered, too
        yield predictions


def test_a_copy_is_renewed_at_most_once_a_second() -> None:
    run = Run()
    assert run.version == 0
    run.learn(8, seconds=0.4)
    run.learn(8, seconds=0.4)
    assert run.version == 0
    run.learn(8, seconds=0.4)
    assert run.version == 24
    run.learn(8, seconds=0.9)
    assert run.version == 24


def test_a_copy_that_is_as_new_as_its_learner_is_left_alone() -> None:
    run = Run()
    before = run.snapshots.latest
    run.now += 100
    run.snapshots(Turned(0))
    assert run.snapshots.latest is before


def test_after_a_restart_the_version_goes_on() -> None:
    run = Run()
    run.snapshots(Resumed(640, 600, {}, 0))
    assert run.version == 600
    run.learn(8, seconds=2)
    assert run.version == 608


def test_a_learner_that_has_not_solved_since_says_so_until_it_has() -> None:
    run = Run(Ridge)
    for _ in range(8):
        run.learn(8, seconds=2)
    assert run.version == 64, "the first solve is due"
    run.learn(8, seconds=2)
    assert run.version == 64
    run.learner.predict(torch.from_numpy(noise(1)))
    run.snapshots(Evaluated(72, {}, False, 0, None, False, 0.1))
    assert run.version == 72


def test_an_answer_is_the_learner_s_and_says_which_version_it_is_of() -> None:
    run = Run()
    run.learn(8, seconds=2)
    with Predictions(run.snapshots, CONTEXT.layout) as predictions:
        answer = predictions.submit(lambda: noise(5)).result(10)
    assert answer.samples == 8
    expected = run.learner.predict(torch.from_numpy(noise(5))).numpy()
    np.testing.assert_allclose(answer.p_BK, expected, atol=1e-6)


class Listening(Finetune):
    """Tells how many images it was asked about, call by call."""

    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context)
        self.asked: list[int] = []

    def predictor(self) -> Predictor:
        copied = super().predictor()

        def answer(x_BCHW: Tensor) -> Tensor:
            self.asked.append(len(x_BCHW))
            return copied.answer(x_BCHW)

        return Predictor(answer)


def test_what_a_learner_makes_at_its_first_prediction_is_there_before_anybody_asks() -> None:
    learner = Listening(CONTEXT)
    with Predictions(Snapshots(learner), CONTEXT.layout) as predictions:
        predictions.submit(lambda: noise(2)).result(10)
    assert learner.asked == [1, 2]


def test_predicting_takes_one_thread_and_leaves_the_learner_its_own() -> None:
    seen: list[int] = []

    def read() -> Pixels:
        seen.append(torch.get_num_threads())
        return noise(1)

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with Predictions(Run().snapshots, CONTEXT.layout) as predictions:
            predictions.submit(read).result(10)
            assert (seen, torch.get_num_threads()) == ([1], 3)
    finally:
        torch.set_num_threads(before)


def test_a_short_answer_is_given_on_the_thread_that_asks(predictions: Predictions) -> None:
    seen: list[threading.Thread] = []

    def read() -> Pixels:
        seen.append(threading.current_thread())
        return noise(2)

    with ThreadPoolExecutor(1) as asker:  # on the test's own, it would settle the number of threads
        answer = asker.submit(predictions.at_once, read).result(10)
        assert asker.submit(threading.current_thread).result(10) in seen
    assert answer is not None
    np.testing.assert_array_equal(answer.p_BK, predictions.submit(lambda: noise(2)).result(10).p_BK)


def test_who_asks_while_another_is_answered_has_to_wait_for_a_turn(predictions: Predictions) -> None:
    go_on, reading = threading.Event(), threading.Event()

    def slowly() -> Pixels:
        reading.set()
        assert go_on.wait(10)
        return noise(1)

    with ThreadPoolExecutor(1) as asker:
        first = predictions.submit(slowly)
        assert reading.wait(10)
        assert asker.submit(predictions.at_once, lambda: noise(1)).result(10) is None
        go_on.set()
        first.result(10)
        assert asker.submit(predictions.at_once, lambda: noise(1)).result(10) is not None


def test_once_answers_take_long_nobody_is_answered_at_once(predictions: Predictions) -> None:
    def computing() -> Pixels:
        until = time.thread_time() + 2 * QUICK_SECONDS
        while time.thread_time() < until:
            pass
        return noise(1)

    with ThreadPoolExecutor(1) as asker:
        for read in [*[computing] * (MOST_SLOW - 1), lambda: noise(1), *[computing] * MOST_SLOW]:
            assert asker.submit(predictions.at_once, read).result(10) is not None
        assert asker.submit(predictions.at_once, lambda: noise(1)).result(10) is None
    assert predictions.submit(lambda: noise(1)).result(10).p_BK.shape == (1, 3)


def test_what_cannot_be_read_at_once_leaves_the_turn_to_the_next(predictions: Predictions) -> None:
    def unreadable() -> Pixels:
        raise MalformedRecord("undecodable", "not a PNG")

    with ThreadPoolExecutor(1) as asker:
        with pytest.raises(MalformedRecord):
            asker.submit(predictions.at_once, unreadable).result(10)
        assert asker.submit(predictions.at_once, lambda: noise(1)).result(10) is not None


def test_who_comes_when_too_many_wait_is_turned_away_and_served_later(predictions: Predictions) -> None:
    go_on = threading.Event()

    def slowly() -> Pixels:
        assert go_on.wait(10)
        return noise(1)

    waiting = [predictions.submit(slowly) for _ in range(MOST_WAITING)]
    with pytest.raises(Busy):
        predictions.submit(slowly)
    go_on.set()
    assert all(future.result(10).p_BK.shape == (1, 3) for future in waiting)
    assert predictions.submit(slowly).result(10).samples == 0


def test_what_cannot_be_read_is_the_asker_s_error_and_nobody_else_s(predictions: Predictions) -> None:
    def unreadable() -> Pixels:
        raise MalformedRecord("undecodable", "not a PNG")

    with pytest.raises(MalformedRecord):
        predictions.submit(unreadable).result(10)
    assert predictions.submit(lambda: noise(2)).result(10).p_BK.shape == (2, 3)
