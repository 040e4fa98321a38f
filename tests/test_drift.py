"""Boundaries are found in plain numbers: soon where there are some, and nowhere else."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from producers.datasets import DatasetName, default_root, load
from service.drift.alarm import Alarm
from service.drift.features import FEATURES, FeatureSums, sum_features
from service.drift.reference import FeatureReference
from service.drift.verdict import Verdict, judge
from service.drift.watch import SETTLED, Watch
from service.evaluation.history import History
from service.events import BoundaryDetected, Event, SegmentStarted
from service.learners.base import Learned, LearnerContext
from service.learners.finetune import Finetune
from service.loop import Loop
from service.wire import Pixels
from tests.feeds import LAYOUT, MemoryFeed, segment

Signals = list[tuple[int, str]]
DATASETS: tuple[DatasetName, DatasetName] = ("mnist", "fashion-mnist")


def pictures(seed: int, count: int, brightness: int) -> Pixels:
    """Noise, a class of it in each image brighter than the other."""
    rng = np.random.default_rng(seed)
    noise: Pixels = rng.integers(0, 100, (count, 1, 8, 8), np.uint8)
    noise += brightness * rng.integers(1, 3, (count, 1, 1, 1), np.uint8)
    return noise


def heard(watch: Watch, x_NCHW: Pixels, size: int = 64, error: float = 0.1) -> Signals:
    """What the watch says of the images in batches, and after how many samples."""
    found: Signals = []
    for start in range(0, len(x_NCHW), size):
        features = sum_features(x_NCHW[start : start + size])
        signal = watch.hears(features, round(features.count * (1 - error)), error)
        if signal is not None:
            found.append((start + features.count, signal))
    return found


@pytest.mark.parametrize("size", [4, 64, 256, 1000])
def test_another_subject_is_found_within_2000_samples_and_found_once(size: int) -> None:
    watch = Watch()
    assert heard(watch, pictures(0, 4000, 20), size) == []
    after = heard(watch, pictures(1, 4000, 50), size)
    assert [signal for _, signal in after] == ["features"]
    assert after[0][0] <= 2000


@pytest.mark.parametrize("size", [16, 64, 256])
def test_a_stationary_stream_raises_no_alarm_in_120_000_samples(size: int) -> None:
    watch, rng = Watch(), np.random.default_rng(size)
    values_NF = rng.beta(0.3, 2.0, (120_000, FEATURES))  # heavy-tailed, as cells with strokes are
    wrong_N, loss_N = rng.random(120_000) < 0.03, rng.exponential(0.1, 120_000)
    for start in range(0, 120_000, size):
        batch = slice(start, start + size)
        count = len(values_NF[batch])
        values_F = values_NF[batch].sum(0).tolist()
        features = FeatureSums(count, tuple(values_F), tuple(np.square(values_NF[batch]).sum(0).tolist()))
        correct = count - int(wrong_N[batch].sum())
        assert watch.hears(features, correct, float(loss_N[batch].mean())) is None


def test_with_a_higher_threshold_a_boundary_takes_more_evidence() -> None:
    def delay(threshold: float) -> int | None:
        watch = Watch(threshold)
        heard(watch, pictures(0, 4000, 20))
        found = heard(watch, pictures(1, 2000, 26))
        return found[0][0] if found else None

    usual, patient, never = delay(1.0), delay(4.0), delay(1e9)
    assert usual is not None
    assert patient is not None
    assert usual < patient
    assert never is None


@pytest.mark.needs("datasets")
def test_real_images_of_one_subject_raise_no_alarm_and_those_of_another_do_at_once() -> None:
    digits_NCHW, clothes_NCHW = (load(name, "train", default_root())[0] for name in DATASETS)
    watch, rng = Watch(), np.random.default_rng(0)
    for _ in range(2):
        assert heard(watch, digits_NCHW[rng.permutation(len(digits_NCHW))], error=0.02) == []
    ((at, signal), *again) = heard(watch, clothes_NCHW[rng.permutation(len(clothes_NCHW))], error=0.02)
    assert (signal, again) == ("features", [])
    assert at <= 128


def test_labels_that_take_on_another_meaning_are_found_by_the_error() -> None:
    watch = Watch()
    assert heard(watch, pictures(0, 4000, 20), error=0.05) == []
    ((at, signal),) = heard(watch, pictures(1, 2000, 20), error=0.9)
    assert (signal, at <= 1000) == ("error", True)


def test_a_learner_that_improves_raises_no_alarm() -> None:
    watch = Watch()
    found = [heard(watch, pictures(i, 500, 20), error=0.9 * 0.7**i) for i in range(12)]
    assert found == [[]] * 12


def test_a_learner_that_is_sure_of_everything_and_right_raises_no_alarm() -> None:
    watch, features = Watch(), sum_features(pictures(0, 64, 20))
    assert {watch.hears(features, 64, 0.0) for _ in range(100)} == {None}
    assert watch.hears(features, 64, 1e-5) is None


def test_nothing_is_looked_for_before_anything_is_usual() -> None:
    watch = Watch()
    assert heard(watch, pictures(0, SETTLED // 2, 20)) == []
    assert heard(watch, pictures(1, SETTLED // 2, 50)) == []


@given(cut=st.integers(0, 60), size=st.sampled_from([16, 64, 256]))
@settings(max_examples=10, deadline=None)
def test_a_watch_put_down_in_json_goes_on_identically(cut: int, size: int) -> None:
    x_NCHW = np.concatenate([pictures(0, 2000, 20), pictures(1, 2000, 26)])
    whole, first = Watch(), Watch()
    before = heard(first, x_NCHW[: cut * size], size)
    second = Watch.going_on(json.loads(json.dumps(first.to_json())))
    after = [(cut * size + at, signal) for at, signal in heard(second, x_NCHW[cut * size :], size)]
    assert before + after == heard(whole, x_NCHW, size)
    assert second.to_json() == whole.to_json()


@given(values=st.lists(st.floats(0, 30), max_size=40), cut=st.integers(0, 40))
def test_an_alarm_put_down_goes_on_as_rivers_own_test_does(values: list[float], cut: int) -> None:
    whole, first, second = (Alarm(slack=1.0, threshold=15.0, cap=20.0) for _ in range(3))
    before = [first.hears(value) for value in values[:cut]]
    second.load_state(first.state())
    assert before + [second.hears(v) for v in values[cut:]] == [whole.hears(v) for v in values]
    assert second.state() == whole.state()


@pytest.mark.parametrize("size", [8, 64, 512])
def test_samples_like_the_earlier_ones_surprise_by_about_one_whatever_the_batch(size: int) -> None:
    usual = FeatureReference()
    usual.add(sum_features(pictures(0, 2000, 20)))
    surprises = [usual.surprise(sum_features(pictures(seed, size, 20))) for seed in range(1, 60)]
    assert 0.6 < float(np.mean(surprises)) < 1.4


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 3, 9), (1, 1, 2)])
def test_features_are_brightness_and_differences_from_0_to_1(shape: tuple[int, int, int]) -> None:
    x_BCHW = np.full((2, *shape), 255, np.uint8)
    sums = sum_features(x_BCHW)
    cells = min(4, shape[1]) * min(4, shape[2])
    assert sums.sums == pytest.approx([2.0] * cells + [0.0, 0.0])
    assert sums.squares == pytest.approx([2.0] * cells + [0.0, 0.0])


@given(
    switches=st.lists(st.integers(1, 50), unique=True).map(sorted),
    found=st.lists(st.integers(1, 60), unique=True).map(sorted),
)
def test_every_boundary_found_is_a_switchs_or_a_false_alarm(switches: list[int], found: list[int]) -> None:
    verdict = judge(switches, found)
    assert len(verdict.delays) == len(switches)
    assert len(switches) - verdict.missed + verdict.false_alarms == len(found)
    for switch, delay in zip(switches, verdict.delays, strict=True):
        assert delay is None or (delay > 0 and switch + delay in found)


def test_a_boundary_found_after_the_next_switch_is_the_next_ones() -> None:
    assert judge([100, 200], [250]) == Verdict((None, 50), 0)


def test_a_switch_that_goes_on_for_a_while_is_found_from_its_begin_on_and_nothing_in_it_is_false() -> None:
    ramps = [(600, 1400)]
    assert judge([1000], [700, 1100], ramps) == Verdict((100,), 0)
    assert judge([1000], [1500], ramps) == Verdict((900,), 0), "found late, and found"
    assert judge([1000], [600, 700], ramps) == Verdict((100,), 1), "before it began nothing had changed"
    assert judge([1000], [700, 1401], ramps) == Verdict((100,), 1), (
        "when it was over nothing changed any more"
    )
    assert judge([1000], [], ramps) == Verdict((None,), 0)
    assert judge([1000, 2000], [700, 2100], ramps) == Verdict((100, 100), 0), "an abrupt one after it"
    assert judge([1000, 2000], [1900], [(600, 1400), (1800, 2200)]) == Verdict((None, 100), 0)


class Told(Finetune):
    """Learns nothing, but notes after how many samples it was told of a boundary."""

    def __init__(self) -> None:
        super().__init__(LearnerContext(LAYOUT))
        self.samples = 0
        self.told: list[int] = []

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        self.samples += len(x_BCHW)
        return Learned(torch.zeros_like(y_B), None)

    def boundary(self) -> None:
        self.told.append(self.samples)


def run(oracle: bool) -> tuple[Told, list[Event]]:
    """Learn 1,600 samples of one segment and 400 much darker ones of another."""
    learner, events = Told(), list[Event]()
    history = History(())
    dark = [replace(item, pixels=item.pixels // 4) for item in segment("b", 400, seed=1)]
    Loop(
        feed=MemoryFeed([*segment("a", 1600), *dark], size=32),
        learner=learner,
        evaluator=None,
        evaluate_every=1000,
        history=history,
        emit=events.append,
        stopping=lambda: False,
        watch=Watch(),
        oracle=oracle,
    ).run()
    assert len(history.boundaries) == 1
    return learner, events


def test_a_learner_hears_of_a_boundary_once_it_is_found() -> None:
    learner, events = run(oracle=False)
    (found,) = (event for event in events if isinstance(event, BoundaryDetected))
    assert learner.told == [found.samples]
    assert 1600 < found.samples <= 1900


def test_with_an_oracle_it_hears_of_the_switch_before_the_first_sample_of_the_new_segment() -> None:
    learner, events = run(oracle=True)
    switch = [event.samples for event in events if isinstance(event, SegmentStarted)][1]
    assert learner.told == [switch] == [1600]
