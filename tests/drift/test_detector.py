"""Boundaries are detected soon after a shift, and only then."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lethe.drift.detector import SETTLED, BoundaryDetector
from lethe.drift.features import CELLS, FeatureSums, sum_features
from lethe.evaluation.boundary_scores import Boundaries, BoundaryVerdict, match_boundaries
from lethe.evaluation.history import History
from lethe.events import BoundaryDetected, Event, SegmentStarted
from lethe.learners.base import Learned, LearnerContext
from lethe.learners.gradient.finetune import Finetune
from lethe.runtime.loop import Loop
from lethe.wire import Pixels
from lethe_producers.datasets import DatasetName, default_root, load
from tests.support.drifting import pictures, reference
from tests.support.feeds import LAYOUT, ScriptedFeed, segment

Signals = list[tuple[int, str]]
DATASETS: tuple[DatasetName, DatasetName] = ("mnist", "fashion-mnist")


def signals_of(detector: BoundaryDetector, x_NCHW: Pixels, size: int = 64, error: float = 0.1) -> Signals:
    """What the detector says of the images in batches, and after how many samples."""
    found: Signals = []
    for start in range(0, len(x_NCHW), size):
        features = sum_features(x_NCHW[start : start + size])
        detection = detector.update(features, round(features.count * (1 - error)), error)
        if detection is not None:
            found.append((start + features.count, detection.signal))
    return found


@pytest.mark.parametrize("size", [4, 64, 256, 1000])
def test_another_subject_is_found_within_2000_samples_and_found_once(size: int) -> None:
    detector = BoundaryDetector()
    assert signals_of(detector, pictures(0, 4000, 20), size) == []
    after = signals_of(detector, pictures(1, 4000, 50), size)
    assert [signal for _, signal in after] == ["features"]
    assert after[0][0] <= 2000


def taking_turns(lengths: Sequence[int]) -> Pixels:
    """Segments of two subjects in turns."""
    return np.concatenate([pictures(k, count, 50 if k % 2 else 20) for k, count in enumerate(lengths)])


@pytest.mark.parametrize("size", [1, 8, 64, 100, 256, 512, 1024])
@pytest.mark.parametrize("lengths", [[1100] * 12, [3000, 2000, *[4000] * 4], [3000, 600, *[4000] * 4]])
def test_every_switch_is_found_before_the_next_for_any_batch_size(size: int, lengths: list[int]) -> None:
    switches = np.cumsum(lengths)[:-1].tolist()
    found = signals_of(BoundaryDetector(), taking_turns(lengths), size)
    verdict = match_boundaries(switches, [at for at, _ in found])
    short = sum(
        length < size for length in lengths[:-1]
    )  # two switches in one batch are found at one instant
    assert verdict.missed <= short
    assert verdict.false_alarms <= short
    assert all(delay <= 128 + size for delay in verdict.delays if delay is not None)


def test_detected_boundaries_depend_on_the_order_of_the_samples_alone() -> None:
    x_NCHW = taking_turns([1500, 1300, 1700, 900, 2000])
    instants = [at for at, _ in signals_of(BoundaryDetector(), x_NCHW, 1)]
    assert len(instants) == 4
    for size in (8, 50, 64, 300):
        assert [at for at, _ in signals_of(BoundaryDetector(), x_NCHW, size)] == [
            -(-at // size) * size for at in instants
        ]


@pytest.mark.parametrize("size", [8, 64, 300, 1024])
def test_the_evidence_is_sufficient_at_the_end_of_a_block_of_64_whatever_the_batch_size(size: int) -> None:
    x_NCHW, found, detector = taking_turns([1500, 1500]), [], BoundaryDetector()
    for start in range(0, len(x_NCHW), size):
        features = sum_features(x_NCHW[start : start + size])
        if (detection := detector.update(features, features.count, None)) is not None:
            found.append(start + features.count - detection.late)
    assert found == [1536]


def test_a_segment_too_short_to_be_found_costs_no_later_switch() -> None:
    lengths = [3000, 200, 3000, 3000, 3000]
    found = [at for at, _ in signals_of(BoundaryDetector(), taking_turns(lengths), 64)]
    for switch in np.cumsum(lengths)[2:-1].tolist():
        assert any(switch < at <= switch + 192 for at in found)


@pytest.mark.parametrize("size", [16, 64, 256])
def test_a_stationary_stream_raises_no_alarm_in_120_000_samples(size: int) -> None:
    detector, rng = BoundaryDetector(), np.random.default_rng(size)
    values_NF = rng.beta(0.3, 2.0, (120_000, CELLS**2 + 2))  # heavy-tailed, as cells with strokes are
    wrong_N, loss_N = rng.random(120_000) < 0.03, rng.exponential(0.1, 120_000)
    for start in range(0, 120_000, size):
        batch = slice(start, start + size)
        features = FeatureSums.of(values_NF[batch])
        correct = features.count - int(wrong_N[batch].sum())
        assert detector.update(features, correct, float(loss_N[batch].mean())) is None


def test_with_a_higher_threshold_a_boundary_takes_more_evidence() -> None:
    def delay(threshold: float) -> int | None:
        detector = BoundaryDetector(threshold)
        signals_of(detector, pictures(0, 4000, 20))
        found = signals_of(detector, pictures(1, 2000, 26))
        return found[0][0] if found else None

    usual, patient, never = delay(1.0), delay(4.0), delay(1e9)
    assert usual is not None
    assert patient is not None
    assert usual < patient
    assert never is None


@pytest.mark.needs("datasets")
def test_real_images_of_one_subject_raise_no_alarm_and_those_of_another_do_at_once() -> None:
    digits_NCHW, clothes_NCHW = (load(name, "train", default_root())[0] for name in DATASETS)
    detector, rng = BoundaryDetector(), np.random.default_rng(0)
    for _ in range(2):
        assert signals_of(detector, digits_NCHW[rng.permutation(len(digits_NCHW))], error=0.02) == []
    ((at, signal), *again) = signals_of(
        detector, clothes_NCHW[rng.permutation(len(clothes_NCHW))], error=0.02
    )
    assert (signal, again) == ("features", [])
    assert at <= 128


def test_labels_that_change_their_meaning_are_detected_by_the_error() -> None:
    detector = BoundaryDetector()
    assert signals_of(detector, pictures(0, 4000, 20), error=0.05) == []
    ((at, signal),) = signals_of(detector, pictures(1, 2000, 20), error=0.9)
    assert (signal, at <= 1000) == ("error", True)


def test_a_learner_that_improves_raises_no_alarm() -> None:
    detector = BoundaryDetector()
    found = [signals_of(detector, pictures(i, 500, 20), error=0.9 * 0.7**i) for i in range(12)]
    assert found == [[]] * 12


def test_a_learner_that_is_certain_and_correct_raises_no_alarm() -> None:
    detector, features = BoundaryDetector(), sum_features(pictures(0, 64, 20))
    assert {detector.update(features, 64, 0.0) for _ in range(100)} == {None}
    assert detector.update(features, 64, 1e-5) is None


def test_no_boundary_is_detected_before_there_is_a_reference() -> None:
    detector = BoundaryDetector()
    assert signals_of(detector, pictures(0, SETTLED // 2, 20)) == []
    assert signals_of(detector, pictures(1, SETTLED // 2, 50)) == []


@pytest.mark.parametrize("size", [8, 64, 512])
def test_labels_that_change_their_meaning_repeatedly_are_detected_each_time(size: int) -> None:
    detector, found = BoundaryDetector(), []
    for begin in range(0, 8000, size):
        features = sum_features(pictures(begin, min(size, 8000 - begin), 20))
        error = 0.9 if begin % 2000 < 1000 else 0.05  # it learns slowly, and each meaning lasts for 2,000
        if detector.update(features, round(features.count * (1 - error)), None) is not None:
            found.append(begin + features.count)
    assert match_boundaries([2000, 4000, 6000], found).missed == 0
    assert len(found) == 3


def test_missing_losses_stay_in_step_with_the_images() -> None:
    detector, found = BoundaryDetector(), []
    for begin in range(0, 6000, 32):
        features = sum_features(pictures(begin, 32, 50 if begin >= 3008 else 20))
        detection = detector.update(features, 30, None if begin % 320 < 64 else 0.1)
        if detection is not None:
            found.append((begin + 32, detection.signal))
    ((at, signal),) = found
    assert (signal, 3008 < at <= 3136) == ("features", True)


def test_the_state_in_an_older_checkpoint_is_read() -> None:
    usual = reference(pictures(0, 5000, 20))
    other = reference(pictures(1, 3000, 50))
    as_before = {
        "features": {"count": usual.count, "sums": usual.sums, "squares": usual.squares},
        "error": {"count": 5000, "mean": 0.1, "variance": 1e-3},
        "loss": {"count": 5000, "mean": 0.1, "variance": 1e-3},
        "alarms": {"features": {"count": 9.0, "mean": 1.0, "increase": 0.0, "least_increase": 0.0}},
        "regimes": {
            "met": 2,
            "references": {"1": {"count": other.count, "sums": other.sums, "squares": other.squares}},
        },
        "regime": 2,
    }
    detector = BoundaryDetector.from_json(json.loads(json.dumps(as_before)))
    assert (detector.regime, detector.met) == (2, 2)
    ((at, signal),) = signals_of(detector, pictures(2, 1000, 50))
    assert (signal, at <= 128) == ("features", True)
    assert (detector.regime, detector.met) == (1, 2), "the one that was there before"
    assert signals_of(detector, pictures(3, 1000, 20)) != []
    assert detector.regime == 2


@given(cut=st.integers(0, 60), size=st.sampled_from([16, 64, 256]))
@settings(max_examples=10, deadline=None)
def test_a_detector_restored_from_json_continues_identically(cut: int, size: int) -> None:
    x_NCHW = np.concatenate([pictures(0, 2000, 20), pictures(1, 2000, 26)])
    whole, first = BoundaryDetector(), BoundaryDetector()
    before = signals_of(first, x_NCHW[: cut * size], size)
    second = BoundaryDetector.from_json(json.loads(json.dumps(first.to_json())))
    after = [(cut * size + at, signal) for at, signal in signals_of(second, x_NCHW[cut * size :], size)]
    assert before + after == signals_of(whole, x_NCHW, size)
    assert second.to_json() == whole.to_json()


@pytest.mark.parametrize("size", [8, 64, 512])
def test_for_samples_like_the_earlier_ones_the_statistic_is_about_one_for_any_batch_size(size: int) -> None:
    usual = reference(pictures(0, 2000, 20))
    surprises = [usual.surprise(reference(pictures(seed, size, 20))) for seed in range(1, 60)]
    assert 0.6 < float(np.mean(surprises)) < 1.4


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 3, 9), (1, 1, 2)])
def test_features_are_brightness_and_differences_from_0_to_1(shape: tuple[int, int, int]) -> None:
    x_BCHW = np.full((2, *shape), 255, np.uint8)
    cells = min(4, shape[1]) * min(4, shape[2])
    for sums_F in sum_features(x_BCHW).between(0, 2):
        assert sums_F.tolist() == pytest.approx([2.0] * cells + [0.0, 0.0])


@given(
    switches=st.lists(st.integers(1, 50), unique=True).map(sorted),
    seen=st.lists(st.integers(1, 60), unique=True).map(sorted),
    size=st.integers(1, 16),
)
def test_every_boundary_found_is_a_switchs_or_a_false_alarm(
    switches: list[int], seen: list[int], size: int
) -> None:
    exact = match_boundaries(switches, seen)
    assert len(exact.delays) == len(switches)
    assert len(switches) - exact.missed + exact.false_alarms == len(seen)
    for switch, delay in zip(switches, exact.delays, strict=True):
        assert delay is None or (delay > 0 and switch + delay in seen)
    reported = [-(-at // size) * size for at in seen]
    late = [report - at for report, at in zip(reported, seen, strict=True)]
    in_batches = match_boundaries(switches, reported, late=late)
    assert in_batches.false_alarms == exact.false_alarms
    for one, other in zip(exact.delays, in_batches.delays, strict=True):
        assert (one is None) == (other is None)
        assert one is None or other is None or one <= other < one + size


def test_a_boundary_found_after_the_next_switch_is_the_next_ones() -> None:
    assert match_boundaries([100, 200], [250]) == BoundaryVerdict((None, 50), 0)


def test_a_boundary_reported_in_the_next_blend_belongs_to_the_switch_whose_evidence_it_had() -> None:
    ramps = [(15_217, 15_583), (16_317, 16_683)]
    assert match_boundaries([15_400, 16_500], [16_384, 17_408], ramps, [896, 896]) == BoundaryVerdict(
        (1167, 1091), 0
    )


def test_evidence_from_before_a_switch_is_a_false_alarm_although_reported_after_it() -> None:
    assert match_boundaries([1000], [1024], late=[64]) == BoundaryVerdict((None,), 1)
    assert match_boundaries([1000], [1024, 2048], late=[64, 960]) == BoundaryVerdict((1048,), 1)
    assert match_boundaries([1000], [2048, 3072], late=[1000, 500]) == BoundaryVerdict((1048,), 1), (
        "nor is a second one of the same switch"
    )


def test_a_gradual_switch_can_be_detected_from_its_start_and_nothing_in_it_is_false() -> None:
    ramps = [(600, 1400)]
    assert match_boundaries([1000], [700, 1100], ramps) == BoundaryVerdict((100,), 0)
    assert match_boundaries([1000], [1500], ramps) == BoundaryVerdict((900,), 0), "found late, and found"
    assert match_boundaries([1000], [600, 700], ramps) == BoundaryVerdict((100,), 1), (
        "before it began nothing had changed"
    )
    assert match_boundaries([1000], [700, 1401], ramps) == BoundaryVerdict((100,), 1), (
        "when it was over nothing changed any more"
    )
    assert match_boundaries([1000], [], ramps) == BoundaryVerdict((None,), 0)
    assert match_boundaries([1000, 2000], [700, 2100], ramps) == BoundaryVerdict((100, 100), 0), (
        "an abrupt one after it"
    )
    assert match_boundaries([1000, 2000], [1900], [(600, 1400), (1800, 2200)]) == BoundaryVerdict(
        (None, 100), 0
    )


class Told(Finetune):
    """Learns nothing, but records after how many samples `boundary` was called."""

    def __init__(self) -> None:
        super().__init__(LearnerContext(LAYOUT))
        self.samples = 0
        self.boundaries: list[int] = []

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        self.samples += len(x_BCHW)
        return Learned(torch.zeros_like(y_B), None)

    def boundary(self) -> None:
        self.boundaries.append(self.samples)


def run(oracle: bool) -> tuple[Told, list[Event]]:
    """Learn 1,600 samples of one segment and 400 much darker ones of another."""
    learner, events = Told(), list[Event]()
    history = History(())
    dark = [replace(item, pixels=item.pixels // 4) for item in segment("b", 400, seed=1)]
    Loop(
        feed=ScriptedFeed([*segment("a", 1600), *dark], size=32),
        learner=learner,
        evaluator=None,
        evaluate_every=1000,
        history=history,
        emit=events.append,
        stopping=lambda: False,
        detector=BoundaryDetector(),
        oracle=oracle,
    ).run()
    assert len(history.boundaries) == 1
    return learner, events


def test_boundary_is_called_once_a_boundary_is_detected() -> None:
    learner, events = run(oracle=False)
    (found,) = (event for event in events if isinstance(event, BoundaryDetected))
    assert learner.boundaries == [found.samples]
    assert 1600 < found.samples <= 1900


def test_with_an_oracle_boundary_is_called_before_the_first_sample_of_the_new_segment() -> None:
    learner, events = run(oracle=True)
    switch = [event.samples for event in events if isinstance(event, SegmentStarted)][1]
    assert learner.boundaries == [switch] == [1600]


def test_a_delay_counts_from_the_record_of_the_switch_and_not_from_its_batchs_beginning() -> None:
    history = History(())
    dark = [replace(item, pixels=item.pixels // 4) for item in segment("b", 1400, seed=1)]
    Loop(
        feed=ScriptedFeed([*segment("a", 1400), *dark], size=256),
        learner=Told(),
        evaluator=None,
        evaluate_every=1000,
        history=history,
        emit=lambda _: None,
        stopping=lambda: False,
        detector=BoundaryDetector(),
    ).run()
    assert Boundaries.of(history).delays == [1536 - 1400]


def test_features_that_were_bytes_are_the_same_to_the_last_bit() -> None:
    features = sum_features(pictures(0, 33, 20))
    again = FeatureSums.from_bytes(features.to_bytes(), features.count)
    for one, other in zip(features.between(5, 30), again.between(5, 30), strict=True):
        assert one.tobytes() == other.tobytes()
