"""The learner contract as checks, for the learners of this package and for your own.

A check takes a factory, which builds a learner from a context, and raises AssertionError when the contract is
violated::

    @pytest.mark.parametrize("check", list(checks_for(MyLearner)), ids=lambda check: check.__name__)
    def test_my_learner_keeps_the_contract(check):
        check(MyLearner)

The samples are synthetic: in images each class lights one corner, in vectors two numbers, with noise.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from lethe.errors import DivergedLoss, NeverLearned
from lethe.learners.base import LearnerContext, Retention
from lethe.learners.capabilities import Capability, Expires, Merges, Pools, Unlearns
from lethe.learners.checks.helpers import (
    CONTEXT,
    IMAGES,
    SIZES,
    Factory,
    Material,
    frozen,
    generator,
    global_generators,
    require,
    require_learn_alike,
    require_plain,
    require_same_state,
    through_files,
    vectors_for,
)
from lethe.learners.fixed_features import FixedFeatures
from lethe.learners.private.base import PrivateLearner
from lethe.learners.state import State
from lethe.wire import Layout

__all__ = ["Check", "Factory", "checks_for"]

Check = Callable[[Factory], None]


def checks_for(factory: Factory, *, seeded: bool = True) -> Iterator[Check]:
    """Yield the checks that the learners of ``factory`` must pass; some depend on `Learner.capabilities`.

    ``seeded`` is False for a learner that draws no random numbers; the check that two seeds give two
    learners is then left out. A learner that takes vectors must pass the checks of samples with these, too.
    """
    yield check_describes_itself
    yield check_kept_counts_the_stored_samples
    yield check_learn_reports_one_prediction_per_sample
    yield check_learn_predicts_before_it_sees_the_labels
    yield check_probabilities_are_those_of_the_predictions
    yield check_predict_gives_probabilities
    yield check_colour_images_are_accepted
    yield check_same_seed_gives_the_same_state
    learner = factory(CONTEXT)
    if seeded and learner.resumable:
        yield check_other_seed_gives_another_state
    yield check_global_random_numbers_are_left_alone
    yield check_batch_is_left_untouched
    yield check_no_reference_to_the_batch_is_kept
    yield check_predict_never_learns
    yield check_predictor_predicts_as_its_learner
    yield check_predictor_predicts_during_learning
    if learner.resumable:
        yield check_loaded_learner_continues_identically
        yield check_solutions_are_restored_with_the_state
        yield check_loading_copies_the_state
        yield check_continues_identically_after_a_boundary
    yield check_non_finite_loss_raises_before_anything_changes
    yield check_separable_classes_are_learned
    yield check_every_capability_is_provided_or_explained
    if learner.retains is not Retention.SAMPLES:
        yield check_state_does_not_grow
    if isinstance(learner, FixedFeatures):
        yield check_features_of_an_image_never_change
    if isinstance(learner, Unlearns):
        yield check_unlearned_samples_leave_no_trace
        yield check_unlearning_what_was_never_learned_changes_nothing
    if isinstance(learner, Merges):
        yield check_merging_is_learning_together
    if isinstance(learner, Expires):
        yield check_expired_samples_are_deleted
    if isinstance(learner, PrivateLearner):
        yield check_privacy_account_is_restored_with_the_state
    if (vectors := vectors_for(factory)) is not None:
        checks = [*_OF_SAMPLES, *(_OF_STORED_STATES if learner.resumable else ())]
        checks += [check_features_of_an_image_never_change] if isinstance(learner, FixedFeatures) else []
        checks += [check_unlearned_samples_leave_no_trace] if isinstance(learner, Unlearns) else []
        yield from (_with(vectors, check) for check in checks)


def _with(given: Material, check: Callable[[Factory, Material], None]) -> Check:
    """Return a check with other samples."""

    def checked(factory: Factory) -> None:
        check(factory, given)

    checked.__name__, checked.__doc__ = f"{check.__name__}_of_vectors", check.__doc__
    return checked


def check_describes_itself(factory: Factory) -> None:
    """Name, retention, summary and paper are given."""
    learner = factory(CONTEXT)
    require(isinstance(learner.retains, Retention), "retains is not a Retention")
    for about in ("name", "summary", "paper"):
        require(bool(getattr(learner, about)), f"{about} is empty")


def check_every_capability_is_provided_or_explained(factory: Factory) -> None:
    """A learner is an instance of the mix-in of each capability that it declares, and explains the others."""
    learner = factory(CONTEXT)
    mixins = {
        Capability.UNLEARNS: isinstance(learner, Unlearns),
        Capability.MERGES: isinstance(learner, Merges),
        Capability.POOLS: isinstance(learner, Pools),
        Capability.EXPIRES: isinstance(learner, Expires),
        Capability.PRIVATE: isinstance(learner, PrivateLearner),
    }
    for capability, provided in mixins.items():
        require(
            (capability in learner.capabilities) is provided,
            f"{capability}: its mix-in does not agree",
        )
        require(bool(learner.why_not(capability)) is not provided, f"{capability}: no reason why not")
    for method, capability in (
        ("unlearn", Capability.UNLEARNS),
        ("merge", Capability.MERGES),
        ("pool", Capability.POOLS),
        ("expire", Capability.EXPIRES),
    ):
        require(mixins[capability] or not hasattr(learner, method), f"{method} without its mix-in")


def check_learn_reports_one_prediction_per_sample(factory: Factory, given: Material = IMAGES) -> None:
    """Batches of any size, 1 included, give as many predicted classes, and a float or no loss."""
    learner = factory(given.context)
    for x_BCHW, y_B in given.batches(SIZES):
        learned = learner.learn(x_BCHW, y_B)
        require_plain(learned.predicted_B, y_B.shape, torch.int64)
        allowed = set(range(given.context.layout.classes))
        require(set(learned.predicted_B.tolist()) <= allowed, "predicted an unknown class")
        require(learned.loss is None or type(learned.loss) is float, "the loss is not a float")


def check_learn_predicts_before_it_sees_the_labels(factory: Factory, given: Material = IMAGES) -> None:
    """Other labels for a batch do not change what `learn` predicts for it."""
    one, other = given.trained(factory), given.trained(factory)
    x_BCHW, y_B = given.batch(48, 8)
    predicted_B = one.learn(x_BCHW, y_B).predicted_B
    otherwise_B = other.learn(x_BCHW, (y_B + 1) % 4).predicted_B
    require(torch.equal(predicted_B, otherwise_B), "the labels changed the predictions")


def check_probabilities_are_those_of_the_predictions(factory: Factory, given: Material = IMAGES) -> None:
    """`learn` reports probabilities if the learner says so; its predictions are the most likely classes."""
    learner = given.trained(factory)
    x_BCHW, y_B = given.batch(48, 8)
    learned = learner.learn(x_BCHW, y_B)
    reported = learned.probabilities is not None
    require(
        reported is learner.reports_probabilities, "reports_probabilities does not say what learn returns"
    )
    if learned.probabilities is None:
        return
    x_BCHW.zero_()  # as the caller does; the probabilities must not depend on it
    p_BK = learned.probabilities()
    require_plain(p_BK, (len(y_B), given.context.layout.classes), torch.float32)
    require(torch.allclose(p_BK.sum(1), torch.ones(len(y_B)), atol=1e-4), "they do not sum to 1")
    likely_B = p_BK.gather(1, learned.predicted_B[:, None]).squeeze(1)
    require(bool((likely_B >= p_BK.amax(1) - 1e-6).all()), "the prediction is not the most likely class")


def check_predict_gives_probabilities(factory: Factory, given: Material = IMAGES) -> None:
    """Predictions are float32, not negative, and sum to 1, before learning and after."""
    for learner in (factory(given.context), given.trained(factory)):
        for size in SIZES:
            p_BK = learner.predict_proba(given.batch(size, size)[0])
            require_plain(p_BK, (size, given.context.layout.classes), torch.float32)
            require(bool((p_BK >= 0).all()), "a probability is negative")
            require(torch.allclose(p_BK.sum(1), torch.ones(size), atol=1e-5), "a sum is not 1")


def check_colour_images_are_accepted(factory: Factory) -> None:
    """Three channels and sides of different length work too."""
    learner = factory(LearnerContext(Layout(channels=3, height=8, width=12, classes=3)))
    x_BCHW = torch.randint(256, (5, 3, 8, 12), dtype=torch.uint8, generator=generator(0))
    learned = learner.learn(x_BCHW, torch.tensor([0, 1, 2, 0, 1]))
    require_plain(learned.predicted_B, (5,), torch.int64)
    require_plain(learner.predict_proba(x_BCHW), (5, 3), torch.float32)


def check_same_seed_gives_the_same_state(factory: Factory, given: Material = IMAGES) -> None:
    """The same context and batches give bit-identical states."""
    require_same_state(given.trained(factory), given.trained(factory))


def check_other_seed_gives_another_state(factory: Factory, given: Material = IMAGES) -> None:
    """The seed of the context is what the learner draws from."""
    other = replace(given.context, seed=given.context.seed + 1)
    one, another = frozen(given.trained(factory).state()), frozen(given.trained(factory, other).state())
    require(one != another, "two seeds gave the same state")


def check_global_random_numbers_are_left_alone(factory: Factory, given: Material = IMAGES) -> None:
    """A learner neither draws from nor seeds the global random number generators."""
    with torch.random.fork_rng(devices=[]):
        torch.rand(1)  # a generator that was just seeded alike would not show that it is seeded again
        before = global_generators()
        learner = given.trained(factory)
        learner.predict_proba(given.batch(8, 8)[0])
        if learner.resumable:
            factory(given.context).load_state(learner.state())
        require(global_generators() == before, "a global random number generator was used")


def check_batch_is_left_untouched(factory: Factory, given: Material = IMAGES) -> None:
    """Neither `learn` nor `predict_proba` writes into its arguments."""
    x_BCHW, y_B = given.batch(32, 8)
    x_before, y_before = x_BCHW.clone(), y_B.clone()
    learner = given.trained(factory)
    learner.predict_proba(x_BCHW)
    learner.learn(x_BCHW, y_B)
    require(torch.equal(x_BCHW, x_before), "the images were written to")
    require(torch.equal(y_B, y_before), "the labels were written to")


def check_no_reference_to_the_batch_is_kept(factory: Factory, given: Material = IMAGES) -> None:
    """Overwriting a batch after `learn` has returned changes nothing, then or later."""
    one, other = factory(given.context), factory(given.context)
    for x_BCHW, y_B in given.batches(SIZES):
        one.learn(x_BCHW, y_B)
        x_own, y_own = x_BCHW.clone(), y_B.clone()
        learned = other.learn(x_own, y_own)
        predicted_B = learned.predicted_B.clone()
        x_own.zero_()
        y_own.zero_()
        require(torch.equal(learned.predicted_B, predicted_B), "the predictions changed with the batch")
    require_same_state(one, other)
    x_BCHW = given.batch(32, 8)[0]
    require(
        torch.equal(one.predict_proba(x_BCHW), other.predict_proba(x_BCHW)),
        "overwriting changed a prediction",
    )


def check_predict_never_learns(factory: Factory, given: Material = IMAGES) -> None:
    """Predicting does not change what a learner reports or its state."""
    one, other = factory(given.context), factory(given.context)
    unseen = given.batch(40, 9)[0]
    for x_BCHW, y_B in given.batches(SIZES):
        p_BK = other.predict_proba(unseen)
        require(torch.equal(p_BK, other.predict_proba(unseen)), "the same images were predicted differently")
        require_learn_alike(one, other, x_BCHW, y_B)
    other.predict_proba(unseen)
    require_same_state(one, other)


def check_predictor_predicts_as_its_learner(factory: Factory, given: Material = IMAGES) -> None:
    """A predictor predicts as its learner does when it is taken, and does not change afterwards."""
    one, other = given.trained(factory), given.trained(factory)
    unseen = given.batch(40, 9)[0]
    p_BK = one.predict_proba(unseen)
    predictor = one.predictor()
    require(predictor.behind == 0, "behind is not 0 right after a prediction")
    require(
        torch.allclose(predictor.predict_proba(unseen), p_BK, atol=1e-5),
        "predictor and learner differ",
    )
    for x_BCHW, y_B in given.batches(SIZES):
        require_learn_alike(one, other, x_BCHW, y_B)
        require(
            torch.allclose(predictor.predict_proba(unseen), p_BK, atol=1e-5), "learning changed a predictor"
        )
        require(0 <= one.predictor().behind <= sum(SIZES) * 2, "behind is not a number of its samples")
    require_same_state(one, other)


def check_predictor_predicts_during_learning(factory: Factory, given: Material = IMAGES) -> None:
    """In another thread, while its learner learns, a predictor gives the same results and changes nothing."""
    learner, alone, unseen = given.trained(factory), given.trained(factory), given.batch(80, 9)[0]
    predictor = learner.predictor()
    p_BK = predictor.predict_proba(unseen)
    require(torch.allclose(alone.predict_proba(unseen), p_BK, atol=1e-5), "predictor and learner differ")
    with ThreadPoolExecutor(1) as thread:
        for x_BCHW, y_B in given.batches(SIZES * 3):
            answers = [thread.submit(predictor.predict_proba, unseen) for _ in range(3)]
            require_learn_alike(learner, alone, x_BCHW, y_B)
            for answer in answers:
                require(torch.allclose(answer.result(), p_BK, atol=1e-5), "learning changed a prediction")
    require_same_state(learner, alone)


def check_features_of_an_image_never_change(factory: Factory, given: Material = IMAGES) -> None:
    """Features that were computed at the start give the same predictions as the images, to the last bit."""
    learner, x_BCHW = factory(given.context), given.batch(80, 9)[0]
    require(isinstance(learner, FixedFeatures), "the learner has no fixed features")
    if isinstance(learner, FixedFeatures):
        learner.learn(*given.batch(64, 8))
        require(learner.features_settled, "the features are not final after the first batch")
        features_BD = learner.features(x_BCHW)
        for x, y_B in given.batches(SIZES):
            learner.learn(x, y_B)
            p_BK = learner.predict_proba(x_BCHW)
            require(torch.equal(learner.predict_features(features_BD), p_BK), "the features have changed")


def check_loaded_learner_continues_identically(factory: Factory, given: Material = IMAGES) -> None:
    """A state survives safetensors and JSON at any moment, and a learner continues from it identically."""
    unseen = given.batch(40, 9)[0]
    for count in range(len(SIZES)):
        one = given.trained(factory, sizes=SIZES[:count])
        other = given.trained(factory, sizes=(5,))  # what it learned before loading is forgotten
        other.load_state(through_files(one.state()))
        require_same_state(one, other)
        require(
            torch.equal(one.predict_proba(unseen), other.predict_proba(unseen)),
            "loading changed a prediction",
        )
        for x_BCHW, y_B in given.batches(SIZES):
            require_learn_alike(one, other, x_BCHW, y_B)
        require_same_state(one, other)


def check_solutions_are_restored_with_the_state(factory: Factory, given: Material = IMAGES) -> None:
    """A loaded learner predicts as the original did with `State.solved`, and exactly without it."""
    one, other, bare, unseen = (
        given.trained(factory),
        factory(given.context),
        factory(given.context),
        given.batch(40, 9)[0],
    )
    one.predict_proba(unseen)
    one.learn(*given.batch(7, 8))
    state = through_files(one.state())
    other.load_state(state)
    bare.load_state(State(state.tensors, state.values))
    ours, theirs = one.predictor(), other.predictor()
    require(ours.behind == theirs.behind, "a loaded learner's predictor is at another sample")
    require(
        torch.equal(ours.predict_proba(unseen), theirs.predict_proba(unseen)),
        "loading changed its predictor",
    )
    require(
        torch.equal(bare.predict_proba(unseen), other.predict_proba(unseen)),
        "the stored solution changed a prediction",
    )


def check_continues_identically_after_a_boundary(factory: Factory, given: Material = IMAGES) -> None:
    """A boundary can occur at any moment, and its effect is part of the state."""
    one, other = factory(given.context), factory(given.context)
    one.boundary()  # before anything was learned
    for x_BCHW, y_B in given.batches([300] * 9):
        one.learn(x_BCHW, y_B)
    one.boundary()
    one.boundary()
    other.load_state(through_files(one.state()))
    require_same_state(one, other)
    for x_BCHW, y_B in given.batches([300] * 9):
        require_learn_alike(one, other, x_BCHW, y_B)
    one.boundary()
    other.boundary()
    require_same_state(one, other)


def check_loading_copies_the_state(factory: Factory, given: Material = IMAGES) -> None:
    """Learning after `load_state` does not write into the state that was loaded."""
    state = through_files(given.trained(factory).state())
    before = frozen(state)
    learner = factory(given.context)
    learner.load_state(state)
    for x_BCHW, y_B in given.batches(SIZES):
        learner.learn(x_BCHW, y_B)
    require(frozen(state) == before, "the learner wrote into the state that it was given")


def check_non_finite_loss_raises_before_anything_changes(factory: Factory, given: Material = IMAGES) -> None:
    """With NaN in its whole state, a learner raises DivergedLoss and does not change.

    A state of whole numbers alone is always finite, and there is nothing to check.
    """
    learner = given.trained(factory)
    state = learner.state()
    if not any(tensor.is_floating_point() for tensor in state.tensors.values()):
        return
    poisoned = {
        name: torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else tensor.clone()
        for name, tensor in state.tensors.items()
    }
    learner.load_state(State(poisoned, state.values))
    before = frozen(learner.state())
    try:
        learner.learn(*given.batch(32, 8))
    except DivergedLoss:
        require(frozen(learner.state()) == before, "the state changed before DivergedLoss was raised")
    else:
        raise AssertionError("learn accepted a loss that is not finite")


def check_separable_classes_are_learned(factory: Factory, given: Material = IMAGES) -> None:
    """Clearly separable classes are predicted after 2,000 samples."""
    learner = given.trained(factory, sizes=[50] * 40)
    x_BCHW, y_B = given.batch(200, 999)
    accuracy = (learner.predict_proba(x_BCHW).argmax(1) == y_B).double().mean().item()
    require(accuracy >= 0.95, f"the accuracy is {accuracy:.2f}")


def check_kept_counts_the_stored_samples(factory: Factory, given: Material = IMAGES) -> None:
    """`kept` is 0 at first, at most the number of samples seen, and 0 unless it retains samples."""
    learner, loaded = given.trained(factory), factory(given.context)
    require(loaded.kept == 0, "an untrained learner stores samples")
    samples = learner.retains is Retention.SAMPLES
    require(int(samples) <= learner.kept <= sum(SIZES) * samples, "kept does not agree with retains")
    if learner.resumable:
        loaded.load_state(through_files(learner.state()))
        require(loaded.kept == learner.kept, "a loaded learner stores another number of samples")


def check_state_does_not_grow(factory: Factory, given: Material = IMAGES) -> None:
    """The state has the same size after 40 samples and after 400."""
    few, many = given.trained(factory, sizes=[40]).state(), given.trained(factory, sizes=[40] * 10).state()
    shapes = {name: tensor.shape for name, tensor in few.tensors.items()}
    grown = {name: tensor.shape for name, tensor in many.tensors.items()}
    require(shapes == grown, "the state grew with the samples")


def check_unlearned_samples_leave_no_trace(factory: Factory, given: Material = IMAGES) -> None:
    """After `unlearn` a learner predicts and learns as one that never saw the samples, up to rounding."""
    one, other = factory(given.context), factory(given.context)
    if not isinstance(one, Unlearns):
        raise TypeError(f"{one.name} is not a lethe.Unlearns")
    gone, stays = given.batch(64, 1), given.batch(64, 2)
    for learner in (one, other):
        learner.learn(*given.batch(64, 3))  # some take a scale from the first batch
    one.learn(*gone)
    for learner in (one, other):
        learner.learn(*stays)
    one.unlearn(*gone)
    unseen = given.batch(40, 9)[0]
    alike = torch.allclose(one.predict_proba(unseen), other.predict_proba(unseen), atol=2e-3, rtol=1e-2)
    require(alike, "what was unlearned still shows in predictions")
    loaded = factory(given.context)
    loaded.load_state(through_files(one.state()))
    require_learn_alike(one, loaded, *given.batch(32, 8))
    require_same_state(one, loaded)


def check_unlearning_what_was_never_learned_changes_nothing(
    factory: Factory, given: Material = IMAGES
) -> None:
    """More samples of a class than were learned raise NeverLearned, and the state stays as it is."""
    learner = given.trained(factory)
    if not isinstance(learner, Unlearns):
        raise TypeError(f"{learner.name} is not a lethe.Unlearns")
    before = frozen(learner.state())
    x_BCHW, y_B = given.batch(2 * sum(SIZES), 8)
    try:
        learner.unlearn(x_BCHW, torch.zeros_like(y_B))
    except NeverLearned:
        require(frozen(learner.state()) == before, "the state changed before NeverLearned was raised")
    else:
        raise AssertionError("unlearn took samples that were never learned")


def check_merging_is_learning_together(factory: Factory, given: Material = IMAGES) -> None:
    """Merged sums are, bit for bit, those of one learner of all samples; subtracting takes them off again."""
    one, other, both = factory(given.context), factory(given.context), factory(given.context)
    if not (isinstance(one, Merges) and isinstance(both, Merges)):
        raise TypeError(f"{one.name} is not a lethe.Merges")
    mine, theirs = given.batch(64, 1), given.batch(50, 2)
    one.learn(*mine)
    before = _bits(one.sums())
    other.learn(*theirs)
    for learned in (theirs, mine):
        both.learn(*learned)
    one.merge(through_files(other.state()))
    require(_bits(one.sums()) == _bits(both.sums()), "merged sums are not those of all samples")
    unseen = given.batch(40, 9)[0]
    alike = torch.allclose(one.predict_proba(unseen), both.predict_proba(unseen), atol=1e-4)
    require(alike, "after merging, it predicts otherwise than one that learned all samples")
    one.subtract(other.state())
    require(_bits(one.sums()) == before, "subtracting does not undo merging")


def _bits(sums: Mapping[str, Tensor]) -> dict[str, bytes]:
    return {name: tensor.cpu().contiguous().numpy().tobytes() for name, tensor in sums.items()}


def check_expired_samples_are_deleted(factory: Factory, given: Material = IMAGES) -> None:
    """`expire` deletes what is stored of the first samples and returns how many; learning continues."""
    learner, loaded = given.trained(factory), factory(given.context)
    if not isinstance(learner, Expires):
        raise TypeError(f"{learner.name} is not a lethe.Expires")
    stored = learner.kept
    expired = learner.expire(SIZES[0])
    require(0 <= expired <= SIZES[0], "it deleted more samples than expired")
    require(learner.kept == stored - expired, "it stores another number of samples than it says")
    require(learner.expire(SIZES[0]) == 0, "samples expired twice")
    loaded.load_state(through_files(learner.state()))
    require_learn_alike(learner, loaded, *given.batch(32, 8))
    require_same_state(learner, loaded)
    learner.expire(sum(SIZES) + 32)
    require(learner.kept == 0, "samples are stored that have all expired")
    learner.learn(*given.batch(32, 9))


def check_privacy_account_is_restored_with_the_state(factory: Factory, given: Material = IMAGES) -> None:
    """What is spent never falls, stays within the budget, and is part of the state."""
    learner, loaded = factory(given.context), factory(given.context)
    if not (isinstance(learner, PrivateLearner) and isinstance(loaded, PrivateLearner)):
        raise TypeError(f"{learner.name} is not a PrivateLearner")
    spent = [learner.privacy().epsilon]
    for x_BCHW, y_B in given.batches(SIZES):
        learner.learn(x_BCHW, y_B)
        spent.append(learner.privacy().epsilon)
    require(spent == sorted(spent), "less is spent after a batch than before")
    require(spent[-1] <= learner.privacy().budget * (1 + 1e-6), "more is spent than the budget")
    loaded.load_state(through_files(learner.state()))
    require(loaded.privacy() == learner.privacy(), "a loaded learner's account differs")


_OF_SAMPLES: Final[Sequence[Callable[[Factory, Material], None]]] = (
    check_learn_reports_one_prediction_per_sample,
    check_learn_predicts_before_it_sees_the_labels,
    check_predict_gives_probabilities,
    check_same_seed_gives_the_same_state,
    check_batch_is_left_untouched,
    check_no_reference_to_the_batch_is_kept,
    check_predict_never_learns,
    check_predictor_predicts_as_its_learner,
    check_non_finite_loss_raises_before_anything_changes,
    check_separable_classes_are_learned,
)
"""The checks in which it matters what samples are."""
_OF_STORED_STATES: Final[Sequence[Callable[[Factory, Material], None]]] = (
    check_loaded_learner_continues_identically,
    check_solutions_are_restored_with_the_state,
    check_continues_identically_after_a_boundary,
)
"""Those of them for learners whose state can be stored."""
