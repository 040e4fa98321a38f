"""Probes are evaluated in the same way each time, and evaluations do not change learning."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lethe.evaluation.evaluator import Evaluator, Interrupted
from lethe.evaluation.probe_features import CHUNK
from lethe.evaluation.tally import MOST_CLASSES, Tally
from lethe.events import Reading
from lethe.learners.base import Learned, Learner, LearnerContext, Retention
from lethe.learners.fixed_features import FixedFeatures
from lethe.learners.state import State
from lethe.probeset import ProbeSet
from lethe.wire import Layout

LAYOUT = Layout(height=4, width=4, classes=3)


class Linear(Learner):
    """A linear classifier whose dropout draws from torch's global generator, when predicting too.

    That is the worst that an evaluation may meet.
    """

    name = "linear"
    retains = Retention.NOTHING
    summary = "a linear classifier with dropout on its input"
    paper = "none"

    def __init__(self, context: LearnerContext) -> None:
        torch.manual_seed(context.seed)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(context.layout.size, context.layout.classes))
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)
        self.seen: list[int] = []

    def logits(self, x_BCHW: Tensor) -> Tensor:
        scores: Tensor = self.net(nn.functional.dropout(x_BCHW / 255, 0.5))
        return scores

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        scores = self.logits(x_BCHW)
        loss = nn.functional.cross_entropy(scores, y_B)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        return Learned(scores.argmax(1), loss.item())

    def predict_proba(self, x_BCHW: Tensor) -> Tensor:
        self.seen.append(len(x_BCHW))
        with torch.no_grad():
            return self.logits(x_BCHW).softmax(1)

    def state(self) -> State:
        return State(self.net.state_dict(), {})

    def load_state(self, state: State) -> None:
        self.net.load_state_dict(dict(state.tensors))


class Lookup(Linear):
    """Says that every image is of the class written into its first pixel."""

    def predict_proba(self, x_BCHW: Tensor) -> Tensor:
        self.seen.append(len(x_BCHW))
        return nn.functional.one_hot(x_BCHW[:, 0, 0, 0].long(), 3).float()


def probe(name: str, images: int, right: int) -> ProbeSet:
    """A probe of which `Lookup` gets the first ``right`` images right."""
    y_N = np.arange(images) % 3
    x_NCHW = np.zeros((images, 1, 4, 4), np.uint8)
    x_NCHW[:, 0, 0, 0] = y_N
    x_NCHW[right:, 0, 0, 0] = (y_N[right:] + 1) % 3
    x_NCHW[:, 0, 1, 1] = np.arange(images) % 251
    return ProbeSet(name, x_NCHW, y_N, "made up", "none needed")


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randint(0, 256, (8, 1, 4, 4), generator=generator, dtype=torch.uint8),
            torch.randint(0, 3, (8,), generator=generator),
        )
        for _ in range(20)
    ]


def accuracy(readings: Mapping[str, Reading]) -> dict[str, float]:
    return {name: reading.accuracy for name, reading in readings.items()}


def learned(evaluator: Evaluator | None) -> Mapping[str, Tensor]:
    learner = Linear(LearnerContext(LAYOUT))
    for turn, (x_BCHW, y_B) in enumerate(batches()):
        if evaluator is not None:
            evaluator.evaluate(learner, full=turn % 2 == 0)
        learner.learn(x_BCHW, y_B)
    return learner.state().tensors


def test_evaluating_does_not_change_learning() -> None:
    watched = learned(Evaluator([probe("a", 40, 20), probe("b", 30, 30)], subset=10, seed=0))
    alone = learned(None)
    assert all(torch.equal(watched[name], alone[name]) for name in alone)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_evaluating_leaves_the_random_state_of_the_accelerator_as_it_was() -> None:
    before = torch.cuda.get_rng_state()

    class OnCuda(Lookup):
        def predict_proba(self, x_BCHW: Tensor) -> Tensor:
            torch.rand(8, device="cuda")
            return super().predict_proba(x_BCHW)

    Evaluator([probe("a", 10, 10)], 5, seed=0).evaluate(OnCuda(LearnerContext(LAYOUT)), full=True)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_a_full_evaluation_counts_every_image_once() -> None:
    learner = Lookup(LearnerContext(LAYOUT))
    evaluator = Evaluator([probe("b", 2 * CHUNK + 7, 300), probe("a", 10, 10)], subset=5, seed=0)
    readings = evaluator.evaluate(learner, full=True)
    assert accuracy(readings) == {"b": 300 / 1007, "a": 1.0}
    assert list(readings) == ["b", "a"]
    assert learner.seen == [CHUNK, CHUNK, 7, 10]


@settings(deadline=None, max_examples=30)
@given(sizes=st.lists(st.integers(1, 3 * CHUNK), min_size=1, max_size=3), ranks=st.integers(1, 5))
def test_the_parts_of_ranks_are_whole_chunks_and_add_up_to_what_one_service_reads(
    sizes: list[int], ranks: int
) -> None:
    probes = [probe(f"{index}", images, images // 2) for index, images in enumerate(sizes)]
    alone = Evaluator(probes, CHUNK + 7, 3)
    parts = [Evaluator(probes, CHUNK + 7, 3, 0, rank, ranks) for rank in range(ranks)]
    for full in (True, False):
        one, *team = (Lookup(LearnerContext(LAYOUT)) for _ in range(ranks + 1))
        expected = alone.evaluate(one, full)
        tallies = [part.tally(learner, full) for part, learner in zip(parts, team, strict=True)]
        read = {name: sum((each[name] for each in tallies), Tally()).reading() for name in expected}
        assert read == expected
        assert sorted(chunk for learner in team for chunk in learner.seen) == sorted(one.seen)
        predicted = [len(learner.seen) for learner in team]
        assert max(predicted) - min(predicted) <= 1, "dealt evenly"
        assert all(part.images(full) == alone.images(full) for part in parts)


def test_each_class_is_measured_on_its_own_images() -> None:
    evaluator = Evaluator([probe("a", 9, 4)], subset=9, seed=0)  # classes 0 1 2 0 right, then all wrong
    reading = evaluator.evaluate(Lookup(LearnerContext(LAYOUT)), full=True)["a"]
    assert reading.by_class == (2 / 3, 1 / 3, 1 / 3)
    one = probe("b", 1, 1)  # of the other classes there are no images
    reading = Evaluator([one], 1, 0).evaluate(Lookup(LearnerContext(LAYOUT)), full=True)["b"]
    assert reading.by_class == (1.0, None, None)


def test_too_many_classes_are_not_evaluated_one_by_one() -> None:
    class Many(Lookup):
        def predict_proba(self, x_BCHW: Tensor) -> Tensor:
            return nn.functional.one_hot(x_BCHW[:, 0, 0, 0].long(), MOST_CLASSES + 1).float()

    reading = Evaluator([probe("a", 9, 4)], 9, 0).evaluate(Many(LearnerContext(LAYOUT)), full=True)["a"]
    assert reading.by_class == ()
    assert reading.accuracy == 4 / 9


def test_confidence_without_accuracy_is_a_calibration_error() -> None:
    evaluator = Evaluator([probe("a", 2 * CHUNK, CHUNK)], subset=5, seed=0)  # always sure, half of it right
    assert evaluator.evaluate(Lookup(LearnerContext(LAYOUT)), full=True)["a"].ece == 0.5


def test_a_full_evaluation_includes_the_accuracy_on_its_subset() -> None:
    learner = Lookup(LearnerContext(LAYOUT))
    evaluator = Evaluator([probe("a", 1000, 500)], subset=31, seed=3)
    whole, subset = (evaluator.evaluate(learner, full)["a"] for full in (True, False))
    assert whole.accuracy == 0.5
    assert whole.on_subset == subset.on_subset == subset.accuracy != 0.5


def test_an_evaluation_stops_between_two_chunks_when_asked_to() -> None:
    learner = Linear(LearnerContext(LAYOUT))  # draws random numbers in each chunk
    evaluator = Evaluator([probe("a", 3 * CHUNK, 10)], subset=5, seed=0)
    random_state = torch.get_rng_state()
    with pytest.raises(Interrupted):
        evaluator.evaluate(learner, full=True, stopping=lambda: len(learner.seen) == 2)
    assert learner.seen == [CHUNK, CHUNK]
    assert torch.equal(torch.get_rng_state(), random_state)


def test_a_subset_is_the_same_in_every_evaluation_and_for_every_set_of_probes() -> None:
    learner = Lookup(LearnerContext(LAYOUT))
    probes = [probe("a", 1000, 500), probe("b", 1000, 500)]
    evaluator = Evaluator(probes, subset=31, seed=3)
    first = evaluator.evaluate(learner, full=False)
    assert evaluator.evaluate(learner, full=False) == first
    alone = Evaluator(probes[1:], subset=31, seed=3).evaluate(learner, full=False)
    assert alone["b"] == first["b"]
    assert learner.seen == [31] * 5


class Fixed(Lookup, FixedFeatures):
    """`Lookup` from features, the first pixels; counts the images that features were computed of."""

    computed = 0

    def features(self, x_BCHW: Tensor) -> Tensor:
        self.computed += len(x_BCHW)
        return x_BCHW[:, 0, 0, :1]

    def predict_features(self, features_BD: Tensor) -> Tensor:
        return nn.functional.one_hot(features_BD[:, 0].long(), 3).float()


def test_fixed_features_are_computed_once_for_each_set_of_images() -> None:
    probes = [probe("a", 2 * CHUNK + 7, 300), probe("b", 10, 10)]
    evaluator = Evaluator(probes, subset=5, seed=0, feature_bytes=1027)
    learner, images_alone = Fixed(LearnerContext(LAYOUT)), Lookup(LearnerContext(LAYOUT))
    for full in (False, True, True, False):
        assert evaluator.evaluate(learner, full) == evaluator.evaluate(images_alone, full)
    assert learner.computed == 5 + 5 + 1007 + 10
    assert evaluator.feature_bytes == 1027
    other = Fixed(LearnerContext(LAYOUT))
    evaluator.evaluate(other, full=False)
    assert other.computed == 10, "features of another learner are not these"


def test_features_that_do_not_fit_are_computed_each_time() -> None:
    evaluator = Evaluator([probe("a", 30, 30), probe("b", 20, 10)], subset=5, seed=0, feature_bytes=29)
    learner = Fixed(LearnerContext(LAYOUT))
    for _ in range(2):
        assert accuracy(evaluator.evaluate(learner, full=True)) == {"a": 1.0, "b": 0.5}
    assert learner.computed == 30 + 20 + 30
    assert evaluator.feature_bytes == 20


def test_features_of_an_interrupted_evaluation_are_not_kept() -> None:
    evaluator = Evaluator([probe("a", 2 * CHUNK, 10)], subset=5, seed=0, feature_bytes=1 << 20)
    learner = Fixed(LearnerContext(LAYOUT))
    with pytest.raises(Interrupted):
        evaluator.evaluate(learner, full=True, stopping=lambda: learner.computed == CHUNK)
    assert evaluator.feature_bytes == 0
    assert evaluator.evaluate(learner, full=True)["a"].accuracy == 10 / (2 * CHUNK)


def test_the_seed_and_the_name_choose_the_subset() -> None:
    learner = Lookup(LearnerContext(LAYOUT))

    def measure(name: str, seed: int) -> float:
        return (
            Evaluator([probe(name, 1000, 500)], subset=101, seed=seed).evaluate(learner, False)[name].accuracy
        )

    assert len({measure("a", seed) for seed in range(8)}) > 1
    assert len({measure(name, 0) for name in "abcdefgh"}) > 1
    assert all(0.3 < measure("a", seed) < 0.7 for seed in range(8)), "a subset is drawn from the whole probe"


def test_a_probe_smaller_than_the_subset_is_used_whole() -> None:
    evaluator = Evaluator([probe("a", 10, 4)], subset=500, seed=0)
    assert accuracy(evaluator.evaluate(Lookup(LearnerContext(LAYOUT)), full=False)) == {"a": 0.4}


def test_read_only_probes_are_measured_too() -> None:
    frozen = probe("a", 10, 4)
    frozen.x_NCHW.flags.writeable = False
    readings = Evaluator([frozen], 5, 0).evaluate(Lookup(LearnerContext(LAYOUT)), full=True)
    assert accuracy(readings) == {"a": 0.4}


@pytest.mark.parametrize(
    ("probes", "subset", "message"),
    [
        ([], 5, "no probes"),
        ([probe("a", 10, 4)], 0, "subset of 0"),
        ([probe("a", 10, 4), probe("void", 0, 0)], 5, "probe void is empty"),
    ],
)
def test_nothing_to_measure_is_refused(probes: list[ProbeSet], subset: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Evaluator(probes, subset, seed=0)


def test_classes_of_a_probe_are_found_by_name_and_an_unknown_one_is_wrong() -> None:
    named = replace(probe("a", 30, 30), classes=("cat", "dog", "bird"))  # of which Lookup says the number
    evaluator, learner = Evaluator([named], subset=30, seed=0), Lookup(LearnerContext(LAYOUT))

    def reading(*classes: str) -> Reading:
        return evaluator.evaluate(learner, full=True, classes=classes)["a"]

    assert reading("cat", "dog", "bird").by_class == (1.0, 1.0, 1.0)
    swapped = reading("dog", "cat", "bird")
    assert (swapped.accuracy, swapped.by_class) == (1 / 3, (0.0, 0.0, 1.0))
    fewer = reading("cat", "dog")  # a bird is taken for one of these
    assert (fewer.accuracy, fewer.by_class) == (2 / 3, (1.0, 1.0))
    assert reading("fish", "cat").by_class == (None, 0.0)
    none = reading()
    assert (none.accuracy, none.on_subset, none.by_class) == (0.0, 0.0, ())
