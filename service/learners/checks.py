"""The Learner contract as checks, for every learner of the table and for your own.

A check takes a factory, which builds a learner from a context, and raises AssertionError when
the contract is broken::

    @pytest.mark.parametrize("check", checks_for(MyLearner), ids=lambda check: check.__name__)
    def test_my_learner_keeps_the_contract(check):
        check(MyLearner)

The images are synthetic: each class lights a corner of its own, under noise.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from service.errors import DivergedLoss
from service.learners.base import Learner, LearnerContext, Retention, State
from service.wire import Layout

__all__ = ["Check", "Factory", "checks_for"]

Factory = Callable[[LearnerContext], Learner]
Check = Callable[[Factory], None]
Batch = tuple[Tensor, Tensor]

_CONTEXT: Final = LearnerContext(Layout(height=8, width=8, classes=4), seed=1)
_SIZES: Final = (32, 1, 7, 64)


def checks_for(factory: Factory, *, seeded: bool = True) -> Iterator[Check]:
    """Yield the checks that the learners of ``factory`` have to pass.

    ``seeded`` is False for a learner that draws no random numbers: no check then asks that
    two seeds give two learners.
    """
    yield check_describes_itself
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
    yield check_loaded_learner_goes_on_identically
    yield check_loading_copies_the_state
    yield check_non_finite_loss_raises_before_anything_changes
    yield check_separable_classes_are_learned
    if factory(_CONTEXT).retains is not Retention.SAMPLES:
        yield check_state_does_not_grow


def check_describes_itself(factory: Factory) -> None:
    """Name, retention, summary and paper are given."""
    learner = factory(_CONTEXT)
    _require(isinstance(learner.retains, Retention), "retains is not a Retention")
    for about in ("name", "summary", "paper"):
        _require(bool(getattr(learner, about)), f"{about} is empty")


def check_learn_reports_one_prediction_per_sample(factory: Factory) -> None:
    """Batches of any size, 1 included, give as many predicted classes, and a float or no loss."""
    learner = factory(_CONTEXT)
    for x_BCHW, y_B in _batches(_SIZES):
        learned = learner.learn(x_BCHW, y_B)
        _require_plain(learned.predicted_B, y_B.shape, torch.int64)
        allowed = set(range(_CONTEXT.layout.classes))
        _require(set(learned.predicted_B.tolist()) <= allowed, "predicted a class that there is not")
        _require(learned.loss is None or type(learned.loss) is float, "the loss is not a float")


def check_learn_predicts_before_it_sees_the_labels(factory: Factory) -> None:
    """Other labels for a batch do not change what `learn` predicts for it."""
    one, other = _trained(factory), _trained(factory)
    x_BCHW, y_B = _batch(48, seed=8)
    predicted_B = one.learn(x_BCHW, y_B).predicted_B
    otherwise_B = other.learn(x_BCHW, (y_B + 1) % 4).predicted_B
    _require(torch.equal(predicted_B, otherwise_B), "the labels changed the predictions")


def check_predict_gives_probabilities(factory: Factory) -> None:
    """Predictions are float32, not negative, and sum to 1, before learning and after."""
    for learner in (factory(_CONTEXT), _trained(factory)):
        for size in _SIZES:
            p_BK = learner.predict(_batch(size, seed=size)[0])
            _require_plain(p_BK, (size, _CONTEXT.layout.classes), torch.float32)
            _require(bool((p_BK >= 0).all()), "a probability is negative")
            _require(torch.allclose(p_BK.sum(1), torch.ones(size), atol=1e-5), "a sum is not 1")


def check_colour_images_are_taken(factory: Factory) -> None:
    """Three channels and sides of different length work too."""
    learner = factory(LearnerContext(Layout(channels=3, height=8, width=12, classes=3)))
    x_BCHW = torch.randint(256, (5, 3, 8, 12), dtype=torch.uint8, generator=_generator(0))
    learned = learner.learn(x_BCHW, torch.tensor([0, 1, 2, 0, 1]))
    _require_plain(learned.predicted_B, (5,), torch.int64)
    _require_plain(learner.predict(x_BCHW), (5, 3), torch.float32)


def check_same_seed_gives_the_same_state(factory: Factory) -> None:
    """The same context and batches give bit-identical states."""
    _require_same_state(_trained(factory), _trained(factory))


def check_other_seed_gives_another_state(factory: Factory) -> None:
    """The seed of the context is what the learner draws from."""
    other = LearnerContext(_CONTEXT.layout, seed=_CONTEXT.seed + 1)
    one, another = _frozen(_trained(factory).state()), _frozen(_trained(factory, other).state())
    _require(one != another, "two seeds gave one state")


def check_global_random_numbers_are_left_alone(factory: Factory) -> None:
    """Nothing that a learner does draws from, or seeds, the generators that others use."""
    before = _global_generators()
    learner = _trained(factory)
    learner.predict(_batch(8, seed=8)[0])
    factory(_CONTEXT).load_state(learner.state())
    _require(_global_generators() == before, "a global random number generator has moved")


def check_batch_is_left_untouched(factory: Factory) -> None:
    """Neither `learn` nor `predict` writes into its arguments."""
    x_BCHW, y_B = _batch(32, seed=8)
    x_before, y_before = x_BCHW.clone(), y_B.clone()
    learner = _trained(factory)
    learner.predict(x_BCHW)
    learner.learn(x_BCHW, y_B)
    _require(torch.equal(x_BCHW, x_before), "the images were written to")
    _require(torch.equal(y_B, y_before), "the labels were written to")


def check_no_reference_to_the_batch_is_kept(factory: Factory) -> None:
    """Overwriting a batch after `learn` has returned changes nothing, then or later."""
    one, other = factory(_CONTEXT), factory(_CONTEXT)
    for x_BCHW, y_B in _batches(_SIZES):
        one.learn(x_BCHW, y_B)
        x_own, y_own = x_BCHW.clone(), y_B.clone()
        learned = other.learn(x_own, y_own)
        predicted_B = learned.predicted_B.clone()
        x_own.zero_()
        y_own.zero_()
        _require(torch.equal(learned.predicted_B, predicted_B), "the predictions changed with the batch")
    _require_same_state(one, other)
    x_BCHW = _batch(32, seed=8)[0]
    _require(torch.equal(one.predict(x_BCHW), other.predict(x_BCHW)), "overwriting changed a prediction")


def check_predict_never_learns(factory: Factory) -> None:
    """A learner that also predicts reports and keeps the same as one that does not."""
    one, other = factory(_CONTEXT), factory(_CONTEXT)
    unseen = _batch(40, seed=9)[0]
    for x_BCHW, y_B in _batches(_SIZES):
        p_BK = other.predict(unseen)
        _require(torch.equal(p_BK, other.predict(unseen)), "the same question had two answers")
        _require_learn_alike(one, other, x_BCHW, y_B)
    other.predict(unseen)
    _require_same_state(one, other)


def check_loaded_learner_goes_on_identically(factory: Factory) -> None:
    """A state survives safetensors and JSON, at any moment, and the learner goes on from it."""
    unseen = _batch(40, seed=9)[0]
    for count in range(len(_SIZES)):
        one = _trained(factory, sizes=_SIZES[:count])
        other = _trained(factory, sizes=(5,))  # what it learned before loading is forgotten
        other.load_state(_through_files(one.state()))
        _require_same_state(one, other)
        _require(torch.equal(one.predict(unseen), other.predict(unseen)), "loading changed a prediction")
        for x_BCHW, y_B in _batches(_SIZES):
            _require_learn_alike(one, other, x_BCHW, y_B)
        _require_same_state(one, other)


def check_loading_copies_the_state(factory: Factory) -> None:
    """Learning after `load_state` does not write into the state that was loaded."""
    state = _through_files(_trained(factory).state())
    before = _frozen(state)
    learner = factory(_CONTEXT)
    learner.load_state(state)
    for x_BCHW, y_B in _batches(_SIZES):
        learner.learn(x_BCHW, y_B)
    _require(_frozen(state) == before, "the learner wrote into the state that it was given")


def check_non_finite_loss_raises_before_anything_changes(factory: Factory) -> None:
    """With NaN for every number it has, a learner refuses to learn and stays as it is."""
    learner = _trained(factory)
    state = learner.state()
    poisoned = {
        name: torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else tensor.clone()
        for name, tensor in state.tensors.items()
    }
    learner.load_state(State(poisoned, state.values))
    before = _frozen(learner.state())
    try:
        learner.learn(*_batch(32, seed=8))
    except DivergedLoss:
        _require(_frozen(learner.state()) == before, "the state changed before DivergedLoss was raised")
    else:
        raise AssertionError("learn took a loss that is not finite")


def check_separable_classes_are_learned(factory: Factory) -> None:
    """Classes that a glance tells apart are told apart after 2,000 samples."""
    learner = _trained(factory, sizes=[50] * 40)
    x_BCHW, y_B = _batch(200, seed=999)
    accuracy = (learner.predict(x_BCHW).argmax(1) == y_B).double().mean().item()
    _require(accuracy >= 0.95, f"the accuracy is {accuracy:.2f}")


def check_state_does_not_grow(factory: Factory) -> None:
    """What is kept has the same size after 40 samples and after 400."""
    few, many = _trained(factory, sizes=[40]).state(), _trained(factory, sizes=[40] * 10).state()
    shapes = {name: tensor.shape for name, tensor in few.tensors.items()}
    grown = {name: tensor.shape for name, tensor in many.tensors.items()}
    _require(shapes == grown, "the state grew with the samples")


def _require(holds: bool, otherwise: str) -> None:
    """Raise AssertionError, which ``python -O`` does not remove, unless ``holds``."""
    if not holds:
        raise AssertionError(otherwise)


def _require_plain(tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    _require(tensor.shape == shape, f"the shape is {tuple(tensor.shape)}, not {tuple(shape)}")
    _require(tensor.dtype == dtype, f"the type is {tensor.dtype}, not {dtype}")
    _require(tensor.device.type == "cpu", "the tensor is not on the CPU")
    _require(not tensor.requires_grad, "the tensor holds on to the graph it came from")


def _require_same_state(one: Learner, other: Learner) -> None:
    (values, tensors), (other_values, other_tensors) = _frozen(one.state()), _frozen(other.state())
    _require(values == other_values, f"values {values} and {other_values} differ")
    _require(set(tensors) == set(other_tensors), "the states have different tensors")
    unlike = [name for name, bits in tensors.items() if bits != other_tensors[name]]
    _require(not unlike, f"tensors {', '.join(unlike)} differ")


def _require_learn_alike(one: Learner, other: Learner, x_BCHW: Tensor, y_B: Tensor) -> None:
    learned, same = one.learn(x_BCHW, y_B), other.learn(x_BCHW, y_B)
    _require(torch.equal(learned.predicted_B, same.predicted_B), "what learn predicted differs")
    _require(learned.loss == same.loss, f"losses {learned.loss} and {same.loss} differ")


def _trained(factory: Factory, context: LearnerContext = _CONTEXT, sizes: Sequence[int] = _SIZES) -> Learner:
    learner = factory(context)
    for x_BCHW, y_B in _batches(sizes):
        learner.learn(x_BCHW, y_B)
    return learner


def _batches(sizes: Sequence[int]) -> Iterator[Batch]:
    return (_batch(size, seed) for seed, size in enumerate(sizes))


def _batch(size: int, seed: int) -> Batch:
    """Return 8×8 images of four classes, one corner each."""
    generator = _generator(seed)
    y_B = torch.randint(4, (size,), generator=generator)
    corners_BCHW = torch.nn.functional.one_hot(y_B, 4).view(size, 1, 2, 2)
    bright_BCHW = 120 * corners_BCHW.repeat_interleave(4, 2).repeat_interleave(4, 3)
    noise_BCHW = torch.randint(136, (size, 1, 8, 8), generator=generator)
    return (bright_BCHW + noise_BCHW).to(torch.uint8), y_B


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _through_files(state: State) -> State:
    """Return ``state`` as it comes back from a checkpoint."""
    return State(load(save(dict(state.tensors))), json.loads(json.dumps(dict(state.values), allow_nan=False)))


def _frozen(state: State) -> tuple[str, dict[str, bytes]]:
    """Return a copy of ``state`` that equals another only if every bit does."""
    tensors = {name: tensor.cpu().numpy().tobytes() for name, tensor in state.tensors.items()}
    return json.dumps(dict(state.values), sort_keys=True), tensors


def _global_generators() -> tuple[bytes, str, object]:
    return torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state()), random.getstate()
