"""The Learner contract as checks, for every learner of the table and for your own.

A check takes a factory, which builds a learner from a context, and raises AssertionError when
the contract is broken::

    @pytest.mark.parametrize("check", list(checks_for(MyLearner)), ids=lambda check: check.__name__)
    def test_my_learner_keeps_the_contract(check):
        check(MyLearner)

The images are synthetic: each class lights a corner of its own, under noise.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from service.errors import DivergedLoss
from service.learners.base import LearnerContext, Retention, State
from service.learners.check_parts import (
    CONTEXT,
    SIZES,
    Factory,
    batch,
    batches,
    frozen,
    generator,
    global_generators,
    require,
    require_learn_alike,
    require_plain,
    require_same_state,
    through_files,
    trained,
)
from service.learners.keeping_checks import check_state_does_not_grow, check_tells_how_many_samples_it_keeps
from service.wire import Layout

__all__ = ["Check", "Factory", "checks_for"]

Check = Callable[[Factory], None]


def checks_for(factory: Factory, *, seeded: bool = True) -> Iterator[Check]:
    """Yield the checks that the learners of ``factory`` have to pass.

    ``seeded`` is False for a learner that draws no random numbers: no check then asks that
    two seeds give two learners.
    """
    yield check_describes_itself
    yield check_tells_how_many_samples_it_keeps
    yield check_learn_reports_one_prediction_per_sample
    yield check_learn_predicts_before_it_sees_the_labels
    yield check_predict_gives_probabilities
    yield check_colour_images_are_taken
    yield check_same_seed_gives_the_same_state
    if seeded:
        yield check_other_seed_gives_another_state
    yield check_global_random_numbers_are_left_alone
    yield check_batch_is_left_untouched
    yield check_no_reference_to_the_batch_is_kept
    yield check_predict_never_learns
    yield check_predictor_predicts_as_its_learner_did
    yield check_predictor_answers_beside_learning
    yield check_loaded_learner_goes_on_identically
    yield check_what_was_solved_comes_back_with_the_state
    yield check_loading_copies_the_state
    yield check_goes_on_identically_after_a_boundary
    yield check_non_finite_loss_raises_before_anything_changes
    yield check_separable_classes_are_learned
    if factory(CONTEXT).retains is not Retention.SAMPLES:
        yield check_state_does_not_grow


def check_describes_itself(factory: Factory) -> None:
    """Name, retention, summary and paper are given."""
    learner = factory(CONTEXT)
    require(isinstance(learner.retains, Retention), "retains is not a Retention")
    for about in ("name", "summary", "paper"):
        require(bool(getattr(learner, about)), f"{about} is empty")


def check_learn_reports_one_prediction_per_sample(factory: Factory) -> None:
    """Batches of any size, 1 included, give as many predicted classes, and a float or no loss."""
    learner = factory(CONTEXT)
    for x_BCHW, y_B in batches(SIZES):
        learned = learner.learn(x_BCHW, y_B)
        require_plain(learned.predicted_B, y_B.shape, torch.int64)
        allowed = set(range(CONTEXT.layout.classes))
        require(set(learned.predicted_B.tolist()) <= allowed, "predicted a class that there is not")
        require(learned.loss is None or type(learned.loss) is float, "the loss is not a float")


def check_learn_predicts_before_it_sees_the_labels(factory: Factory) -> None:
    """Other labels for a batch do not change what `learn` predicts for it."""
    one, other = trained(factory), trained(factory)
    x_BCHW, y_B = batch(48, seed=8)
    predicted_B = one.learn(x_BCHW, y_B).predicted_B
    otherwise_B = other.learn(x_BCHW, (y_B + 1) % 4).predicted_B
    require(torch.equal(predicted_B, otherwise_B), "the labels changed the predictions")


def check_predict_gives_probabilities(factory: Factory) -> None:
    """Predictions are float32, not negative, and sum to 1, before learning and after."""
    for learner in (factory(CONTEXT), trained(factory)):
        for size in SIZES:
            p_BK = learner.predict(batch(size, seed=size)[0])
            require_plain(p_BK, (size, CONTEXT.layout.classes), torch.float32)
            require(bool((p_BK >= 0).all()), "a probability is negative")
            require(torch.allclose(p_BK.sum(1), torch.ones(size), atol=1e-5), "a sum is not 1")


def check_colour_images_are_taken(factory: Factory) -> None:
    """Three channels and sides of different length work too."""
    learner = factory(LearnerContext(Layout(channels=3, height=8, width=12, classes=3)))
    x_BCHW = torch.randint(256, (5, 3, 8, 12), dtype=torch.uint8, generator=generator(0))
    learned = learner.learn(x_BCHW, torch.tensor([0, 1, 2, 0, 1]))
    require_plain(learned.predicted_B, (5,), torch.int64)
    require_plain(learner.predict(x_BCHW), (5, 3), torch.float32)


def check_same_seed_gives_the_same_state(factory: Factory) -> None:
    """The same context and batches give bit-identical states."""
    require_same_state(trained(factory), trained(factory))


def check_other_seed_gives_another_state(factory: Factory) -> None:
    """The seed of the context is what the learner draws from."""
    other = LearnerContext(CONTEXT.layout, seed=CONTEXT.seed + 1)
    one, another = frozen(trained(factory).state()), frozen(trained(factory, other).state())
    require(one != another, "two seeds gave one state")


def check_global_random_numbers_are_left_alone(factory: Factory) -> None:
    """Nothing that a learner does draws from, or seeds, the generators that others use."""
    before = global_generators()
    learner = trained(factory)
    learner.predict(batch(8, seed=8)[0])
    factory(CONTEXT).load_state(learner.state())
    require(global_generators() == before, "a global random number generator has moved")


def check_batch_is_left_untouched(factory: Factory) -> None:
    """Neither `learn` nor `predict` writes into its arguments."""
    x_BCHW, y_B = batch(32, seed=8)
    x_before, y_before = x_BCHW.clone(), y_B.clone()
    learner = trained(factory)
    learner.predict(x_BCHW)
    learner.learn(x_BCHW, y_B)
    require(torch.equal(x_BCHW, x_before), "the images were written to")
    require(torch.equal(y_B, y_before), "the labels were written to")


def check_no_reference_to_the_batch_is_kept(factory: Factory) -> None:
    """Overwriting a batch after `learn` has returned changes nothing, then or later."""
    one, other = factory(CONTEXT), factory(CONTEXT)
    for x_BCHW, y_B in batches(SIZES):
        one.learn(x_BCHW, y_B)
        x_own, y_own = x_BCHW.clone(), y_B.clone()
        learned = other.learn(x_own, y_own)
        predicted_B = learned.predicted_B.clone()
        x_own.zero_()
        y_own.zero_()
        require(torch.equal(learned.predicted_B, predicted_B), "the predictions changed with the batch")
    require_same_state(one, other)
    x_BCHW = batch(32, seed=8)[0]
    require(torch.equal(one.predict(x_BCHW), other.predict(x_BCHW)), "overwriting changed a prediction")


def check_predict_never_learns(factory: Factory) -> None:
    """A learner that also predicts reports and keeps the same as one that does not."""
    one, other = factory(CONTEXT), factory(CONTEXT)
    unseen = batch(40, seed=9)[0]
    for x_BCHW, y_B in batches(SIZES):
        p_BK = other.predict(unseen)
        require(torch.equal(p_BK, other.predict(unseen)), "the same question had two answers")
        require_learn_alike(one, other, x_BCHW, y_B)
    other.predict(unseen)
    require_same_state(one, other)


def check_predictor_predicts_as_its_learner_did(factory: Factory) -> None:
    """A predictor answers as its learner does when it is taken, and gives the same answer ever after."""
    one, other = trained(factory), trained(factory)
    unseen = batch(40, seed=9)[0]
    p_BK = one.predict(unseen)
    predictor = one.predictor()
    require(predictor.behind == 0, "a learner that has just predicted is behind itself")
    require(torch.allclose(predictor.predict(unseen), p_BK, atol=1e-5), "the predictor answers otherwise")
    for x_BCHW, y_B in batches(SIZES):
        require_learn_alike(one, other, x_BCHW, y_B)
        require(torch.allclose(predictor.predict(unseen), p_BK, atol=1e-5), "learning changed a predictor")
        require(0 <= one.predictor().behind <= sum(SIZES) * 2, "behind is not a number of its samples")
    require_same_state(one, other)


def check_predictor_answers_beside_learning(factory: Factory) -> None:
    """In another thread, while its learner goes on, a predictor answers the same, and disturbs nothing."""
    learner, alone, unseen = trained(factory), trained(factory), batch(80, seed=9)[0]
    predictor = learner.predictor()
    p_BK = predictor.predict(unseen)
    require(torch.allclose(alone.predict(unseen), p_BK, atol=1e-5), "the predictor answers otherwise")
    with ThreadPoolExecutor(1) as thread:
        for x_BCHW, y_B in batches(SIZES * 3):
            answers = [thread.submit(predictor.predict, unseen) for _ in range(3)]
            require_learn_alike(learner, alone, x_BCHW, y_B)
            for answer in answers:
                require(torch.allclose(answer.result(), p_BK, atol=1e-5), "learning changed an answer")
    require_same_state(learner, alone)


def check_loaded_learner_goes_on_identically(factory: Factory) -> None:
    """A state survives safetensors and JSON, at any moment, and the learner goes on from it."""
    unseen = batch(40, seed=9)[0]
    for count in range(len(SIZES)):
        one = trained(factory, sizes=SIZES[:count])
        other = trained(factory, sizes=(5,))  # what it learned before loading is forgotten
        other.load_state(through_files(one.state()))
        require_same_state(one, other)
        require(torch.equal(one.predict(unseen), other.predict(unseen)), "loading changed a prediction")
        for x_BCHW, y_B in batches(SIZES):
            require_learn_alike(one, other, x_BCHW, y_B)
        require_same_state(one, other)


def check_what_was_solved_comes_back_with_the_state(factory: Factory) -> None:
    """A loaded learner answers as the one before did, with what was solved and, exactly, without."""
    one, other, bare, unseen = trained(factory), factory(CONTEXT), factory(CONTEXT), batch(40, seed=9)[0]
    one.predict(unseen)
    one.learn(*batch(7, seed=8))
    state = through_files(one.state())
    other.load_state(state)
    bare.load_state(State(state.tensors, state.values))
    ours, theirs = one.predictor(), other.predictor()
    require(ours.behind == theirs.behind, "a loaded learner's predictor is at another sample")
    require(torch.equal(ours.predict(unseen), theirs.predict(unseen)), "and it answers otherwise")
    require(torch.equal(bare.predict(unseen), other.predict(unseen)), "what was solved changed a prediction")


def check_goes_on_identically_after_a_boundary(factory: Factory) -> None:
    """A boundary may come at any moment, and what it changes is part of the state."""
    one, other = factory(CONTEXT), factory(CONTEXT)
    one.boundary()  # before anything was learned
    for x_BCHW, y_B in batches([300] * 9):
        one.learn(x_BCHW, y_B)
    one.boundary()
    one.boundary()
    other.load_state(through_files(one.state()))
    require_same_state(one, other)
    for x_BCHW, y_B in batches([300] * 9):
        require_learn_alike(one, other, x_BCHW, y_B)
    one.boundary()
    other.boundary()
    require_same_state(one, other)


def check_loading_copies_the_state(factory: Factory) -> None:
    """Learning after `load_state` does not write into the state that was loaded."""
    state = through_files(trained(factory).state())
    before = frozen(state)
    learner = factory(CONTEXT)
    learner.load_state(state)
    for x_BCHW, y_B in batches(SIZES):
        learner.learn(x_BCHW, y_B)
    require(frozen(state) == before, "the learner wrote into the state that it was given")


def check_non_finite_loss_raises_before_anything_changes(factory: Factory) -> None:
    """With NaN for every number it has, a learner refuses to learn and stays as it is."""
    learner = trained(factory)
    state = learner.state()
    poisoned = {
        name: torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else tensor.clone()
        for name, tensor in state.tensors.items()
    }
    learner.load_state(State(poisoned, state.values))
    before = frozen(learner.state())
    try:
        learner.learn(*batch(32, seed=8))
    except DivergedLoss:
        require(frozen(learner.state()) == before, "the state changed before DivergedLoss was raised")
    else:
        raise AssertionError("learn took a loss that is not finite")


def check_separable_classes_are_learned(factory: Factory) -> None:
    """Classes that a glance tells apart are told apart after 2,000 samples."""
    learner = trained(factory, sizes=[50] * 40)
    x_BCHW, y_B = batch(200, seed=999)
    accuracy = (learner.predict(x_BCHW).argmax(1) == y_B).double().mean().item()
    require(accuracy >= 0.95, f"the accuracy is {accuracy:.2f}")
