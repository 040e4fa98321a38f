"""Learners on vectors: how these are standardised, and what is exact of that."""

from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lethe.errors import InvalidSetting
from lethe.learners.analytic.experts import Experts
from lethe.learners.analytic.ncm import NCM
from lethe.learners.analytic.ridge import Ridge
from lethe.learners.analytic.slda import SLDA
from lethe.learners.base import LearnerContext, Retention
from lethe.learners.capabilities import KeepsSums, Merges
from lethe.learners.features.vector_features import VectorFeatures
from lethe.learners.gradient.finetune import Finetune
from lethe.learners.gradient.replay import Replay
from lethe.learners.private.dp_ridge import DPRidge
from lethe.learners.registry import create
from lethe.learners.state import JSON
from lethe.learners.vector_scale import VectorOptions, VectorScale
from lethe.wire import Layout
from tests.support.pools import together

LAYOUT = Layout(features=6, classes=3)
GIVEN: Mapping[str, JSON] = {"location": 0.0, "spread": [1.0, 1.0, 1.0, 1000.0, 1000.0, 1000.0]}
ANALYTIC = (Ridge, SLDA, NCM, Experts)
CPU = torch.device("cpu")


def vectors(count: int, seed: int = 0, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    """Three classes, each with two large numbers, of which one is in thousands."""
    drawn = torch.Generator().manual_seed(seed)
    y_N = torch.randint(3, (count,), generator=drawn)
    lit_NF = torch.nn.functional.one_hot(y_N, 3).repeat(1, 2) * 3.0
    noise_NF = torch.randn(count, 6, generator=drawn)
    return (lit_NF + noise_NF + shift) * torch.tensor([1.0] * 3 + [1000.0] * 3), y_N


def context(**options: JSON) -> LearnerContext:
    return LearnerContext(LAYOUT, seed=1, options=options)


def bits(learner: KeepsSums) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in learner.total().items()}


@pytest.mark.parametrize("kind", [Ridge, SLDA, NCM, Experts])
@settings(deadline=None, max_examples=8)
@given(data=st.data())
def test_with_a_given_scale_the_order_and_the_batches_leave_one_hash(
    kind: type[KeepsSums], data: st.DataObject
) -> None:
    x_NF, y_N = vectors(200)
    order = torch.tensor(data.draw(st.permutations(range(200))))
    cuts = sorted(data.draw(st.lists(st.integers(1, 199), max_size=4)))
    hashes = []
    for x, y, at in ((x_NF, y_N, []), (x_NF[order], y_N[order], cuts)):
        learner = create(kind.name, context(waves=40, **GIVEN))  # type: ignore[attr-defined] # a learner, too
        for x_BF, y_B in zip(x.tensor_split(at), y.tensor_split(at), strict=True):
            if len(x_BF):
                learner.learn(x_BF, y_B)
        assert isinstance(learner, KeepsSums)
        hashes.append(bits(learner))
    assert hashes[0] == hashes[1]


def test_features_are_the_same_in_any_batch_and_known_by_their_bytes() -> None:
    scale = VectorScale.of(LAYOUT, VectorOptions.of(dict(GIVEN)))
    assert scale is not None
    features = VectorFeatures(scale, seed=0, waves=50, device=CPU)
    x_NF = vectors(64)[0]
    whole = features(x_NF)
    assert torch.equal(whole, torch.cat([features(x_F) for x_F in torch.split(x_NF, 1)]))
    assert (whole.dtype, whole.shape) == (torch.int8, (64, 6 + 50 + 1))
    exact = features(torch.tensor([[0.0, 1.0, -2.0, 500.0, -8000.0, 1e30]]))
    assert exact[0, :6].tolist() == [0, 16, -32, 8, -127, 127]
    assert exact[0, 6:12].tolist() == GOLDEN_WAVES
    assert exact[0, -1] == 127


GOLDEN_WAVES: Sequence[int] = [113, 89, 104, -118, 116, -18]
"""Drawn from torch's Mersenne Twister as whole numbers: the same on every machine."""


def test_products_of_features_approach_a_gaussian_kernel() -> None:
    layout = Layout(features=20)
    scale = VectorScale.of(layout, VectorOptions(location=0.0, spread=1.0))
    assert scale is not None
    features = VectorFeatures(scale, seed=0, waves=1200, device=CPU)
    x_NF = torch.randn(40, 20, generator=torch.Generator().manual_seed(0)) * 0.7
    waves_NW = features(x_NF)[:, 20:-1].double() / 127
    products_NN = 2 * waves_NW @ waves_NW.T / waves_NW.shape[1]
    kernel_NN = torch.exp(-(1.5**2) * torch.cdist(x_NF, x_NF).square().double() / (2 * 20))
    assert (products_NN - kernel_NN).abs().max() < 0.15


def test_an_estimated_scale_is_robust_and_made_of_few_bits() -> None:
    scale = VectorScale.of(LAYOUT, VectorOptions())
    assert scale is not None
    assert not scale.known
    x_NF = vectors(2000)[0]
    for x_BF in torch.split(x_NF, 100):
        x_BF[0] = 1e30  # one of a hundred is far out
        scale = scale.after(x_BF)
    clean_NF = x_NF[x_NF[:, 0] < 1e29].double()
    first = VectorScale.of(LAYOUT, VectorOptions())
    assert first is not None
    later = first.after(clean_NF[:100])
    for x_BF in torch.split(x_NF[100:], 100):
        later = later.after(x_BF)
    assert ((later.location_F - clean_NF.mean(0)).abs() < 0.3 * clean_NF.std(0)).all()
    assert (later.spread_F / clean_NF.std(0)).sub(1).abs().max() < 0.3
    rounded = later.rounded()
    assert (rounded.spread_F / later.spread_F).sub(1).abs().max() <= 1 / 16
    mantissas_F = torch.frexp(rounded.spread_F).mantissa * 16
    assert torch.equal(mantissas_F, mantissas_F.round())


def test_numbers_that_do_not_vary_are_left_as_they_are() -> None:
    scale = VectorScale.of(LAYOUT, VectorOptions())
    assert scale is not None
    once = scale.after(torch.full((1, 6), 5.0))
    assert once.standardised(torch.full((1, 6), 7.0)).tolist() == [[2.0] * 6]
    twice = once.after(torch.full((1, 6), 7.0))
    assert (twice.location_F.tolist(), twice.spread_F.tolist()) == ([6.0] * 6, [1.25] * 6)


@pytest.mark.parametrize("name", ["finetune", "ewc", "replay", "ridge", "slda", "ncm", "experts"])
def test_numbers_of_any_magnitude_are_learned_without_a_given_scale(name: str) -> None:
    learner = create(name, context())
    for seed in range(30):
        learner.learn(*vectors(64, seed))
    x_NF, y_N = vectors(300, seed=99)
    assert (learner.predict_proba(x_NF).argmax(1) == y_N).double().mean() > 0.9


def test_an_estimated_scale_is_declared_as_retained() -> None:
    images = Layout()
    assert Finetune.retention(LAYOUT, {}) is Retention.STATISTICS
    assert Finetune.retention(LAYOUT, GIVEN) is Finetune.retention(images, {}) is Retention.NOTHING
    assert Replay.retention(LAYOUT, {}) is Retention.SAMPLES
    assert Ridge.retention(LAYOUT, {}) is Retention.STATISTICS


def test_a_given_scale_is_not_in_the_state() -> None:
    for kind in (Finetune, Ridge, NCM):
        estimated, given_one = kind(context()), kind(context(**GIVEN))
        for learner in (estimated, given_one):
            learner.learn(*vectors(64))
        names = set(estimated.state().tensors) - set(given_one.state().tensors)
        assert {name.removeprefix("inputs.") for name in names} == {"location", "spread", "scaled"}


@pytest.mark.parametrize("kind", [Ridge, SLDA, NCM])
def test_states_of_other_scales_are_not_merged_and_those_of_one_are(kind: Callable[..., Merges]) -> None:
    one, other = kind(context(waves=20)), kind(context(waves=20))
    for learner, shift in ((one, 0.0), (other, 5.0)):
        learner.learn(*vectors(64, shift=shift))  # type: ignore[attr-defined] # a learner, too
    before = bits(one)
    with pytest.raises(InvalidSetting, match=r"learner\.options\.location and spread"):
        one.merge(other.state())  # type: ignore[attr-defined]
    assert bits(one) == before
    again, both = kind(context(waves=20)), kind(context(waves=20))
    again.begin_as(one.state())  # type: ignore[attr-defined]
    again.learn(*vectors(50, seed=2))  # type: ignore[attr-defined]
    both.learn(*vectors(64))  # type: ignore[attr-defined]
    both.learn(*vectors(50, seed=2))  # type: ignore[attr-defined]
    one.merge(again.state())  # type: ignore[attr-defined]
    assert bits(one) == bits(both)


def test_ranks_need_a_given_scale() -> None:
    with pytest.raises(InvalidSetting, match="spread are needed by ranks that learn vectors"):
        together([Ridge(context())], lambda _, learner: None)
    together([Ridge(context(**GIVEN))], lambda _, learner: None)


def test_experts_find_the_regimes_of_vectors() -> None:
    learner = Experts(context(waves=60))
    for shift in (0.0, 6.0, 0.0):
        for seed in range(20):
            learner.learn(*vectors(64, seed + round(shift), shift))
    assert learner.regimes == 2
    for shift in (0.0, 6.0):
        x_NF, y_N = vectors(300, seed=99, shift=shift)
        assert (learner.predict_proba(x_NF).argmax(1) == y_N).double().mean() > 0.9


def test_a_private_learner_takes_vectors_of_a_given_scale_alone() -> None:
    with pytest.raises(ValueError, match="vectors need"):
        DPRidge(context())
    learner = DPRidge(context(**GIVEN))
    longest = learner._features(vectors(200)[0] * 1e6).norm(dim=1).max()
    assert longest <= 1 + 1e-6
