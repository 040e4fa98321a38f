"""Every registered learner passes the contract checks, and the checks catch broken learners."""

import pytest
import torch
from torch import Tensor

from lethe.errors import InvalidSetting
from lethe.learners.base import Learned, Learner, LearnerContext, Retention
from lethe.learners.checks.contract import Check, checks_for
from lethe.learners.registry import LEARNERS, create
from lethe.learners.state import State
from lethe.wire import Layout

CASES = [(name, check) for name, kind in LEARNERS.items() for check in checks_for(kind)]


@pytest.mark.parametrize(("name", "check"), CASES, ids=lambda case: getattr(case, "__name__", case))
def test_every_learner_passes_the_contract(name: str, check: Check) -> None:
    check(LEARNERS[name])


def test_the_registry_uses_each_learners_own_name() -> None:
    assert all(name == kind.name for name, kind in LEARNERS.items())


def test_create_builds_the_learner_of_that_name() -> None:
    for name, kind in LEARNERS.items():
        assert type(create(name, LearnerContext(Layout(height=16, width=16)))) is kind


def test_an_unknown_learner_is_refused_with_a_list_of_the_known_ones() -> None:
    with pytest.raises(InvalidSetting, match=r"'ridgge' does not exist.*finetune"):
        create("ridgge", LearnerContext(Layout()))


class Frequencies(Learner):
    """Predicts the most frequent class; a correct learner that ignores the images."""

    name = "frequencies"
    retains = Retention.STATISTICS
    summary = "the most frequent class"
    paper = "none"

    def __init__(self, context: LearnerContext) -> None:
        self._counts_K = torch.ones(context.layout.classes)

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        predicted_B = self.predict_proba(x_BCHW).argmax(1)
        self._counts_K += torch.bincount(y_B, minlength=len(self._counts_K))
        return Learned(predicted_B, None)

    def predict_proba(self, x_BCHW: Tensor) -> Tensor:
        return (self._counts_K / self._counts_K.sum()).repeat(len(x_BCHW), 1)

    def state(self) -> State:
        return State({"counts": self._counts_K}, {})

    def load_state(self, state: State) -> None:
        self._counts_K = state.tensors["counts"].clone()


class PeeksAtLabels(Frequencies):
    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        super().learn(x_BCHW, y_B)
        return Learned(y_B.clone(), None)


class KeepsTheBatch(Frequencies):
    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        self._last = x_BCHW
        return super().learn(x_BCHW, y_B)

    def state(self) -> State:
        return State({"counts": self._counts_K, "last": self._last}, {})


class LearnsFromPredictions(Frequencies):
    def predict_proba(self, x_BCHW: Tensor) -> Tensor:
        self._counts_K[0] += 1
        return super().predict_proba(x_BCHW)


class WritesIntoTheBatch(Frequencies):
    def predict_proba(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW.zero_()
        return super().predict_proba(x_BCHW)


class ForgetsToSave(Frequencies):
    def load_state(self, state: State) -> None:
        pass


class SharesTheLoadedState(Frequencies):
    def load_state(self, state: State) -> None:
        self._counts_K = state.tensors["counts"]


class SeedsGlobalGenerators(Frequencies):
    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context)
        torch.manual_seed(context.seed)


class DrawsGlobalRandomNumbers(Frequencies):
    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context)
        self._counts_K = torch.rand(context.layout.classes)


class Accumulates(Frequencies):
    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        self._seen = torch.cat([getattr(self, "_seen", y_B[:0]), y_B])
        return super().learn(x_BCHW, y_B)

    def state(self) -> State:
        return State({"counts": self._counts_K, "seen": self._seen}, {})


class KeepsSamplesUndeclared(Accumulates):
    retains = Retention.SAMPLES


class KeepsMoreThanDeclared(Frequencies):
    kept = 7


class ForgetsTheBoundary(Frequencies):
    counts = 1

    def boundary(self) -> None:
        self.counts = 2

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        return super().learn(x_BCHW.repeat(self.counts, 1, 1, 1), y_B.repeat(self.counts))


class ForgetsToNormalise(Frequencies):
    def predict_proba(self, x_BCHW: Tensor) -> Tensor:
        return self._counts_K.repeat(len(x_BCHW), 1)


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        (Frequencies, "check_other_seed_gives_another_state"),
        (Frequencies, "check_non_finite_loss_raises_before_anything_changes"),
        (Frequencies, "check_separable_classes_are_learned"),
        (PeeksAtLabels, "check_learn_predicts_before_it_sees_the_labels"),
        (KeepsTheBatch, "check_no_reference_to_the_batch_is_kept"),
        (LearnsFromPredictions, "check_predict_never_learns"),
        (WritesIntoTheBatch, "check_batch_is_left_untouched"),
        (ForgetsToSave, "check_loaded_learner_continues_identically"),
        (SharesTheLoadedState, "check_loading_copies_the_state"),
        (SeedsGlobalGenerators, "check_global_random_numbers_are_left_alone"),
        (DrawsGlobalRandomNumbers, "check_same_seed_gives_the_same_state"),
        (Accumulates, "check_state_does_not_grow"),
        (KeepsSamplesUndeclared, "check_kept_counts_the_stored_samples"),
        (KeepsMoreThanDeclared, "check_kept_counts_the_stored_samples"),
        (ForgetsTheBoundary, "check_continues_identically_after_a_boundary"),
        (ForgetsToNormalise, "check_predict_gives_probabilities"),
    ],
)
def test_the_checks_catch_a_learner_that_breaks_the_contract(kind: type[Learner], broken: str) -> None:
    check = next(check for check in checks_for(kind) if check.__name__ == broken)
    with torch.random.fork_rng(devices=[]), pytest.raises(AssertionError):
        check(kind)


def test_a_learner_without_random_numbers_is_not_asked_for_two_seeds() -> None:
    names = {check.__name__ for check in checks_for(Frequencies, seeded=False)}
    assert "check_other_seed_gives_another_state" not in names
    assert "check_same_seed_gives_the_same_state" in names
