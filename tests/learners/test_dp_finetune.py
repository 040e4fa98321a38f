"""Differentially private learning: noise that covers every sample, its account, and its end."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent
from torch import Tensor, nn

from lethe.errors import BudgetSpent, InvalidSetting
from lethe.evaluation.history import History
from lethe.events import Event, PrivacySpent
from lethe.learners.base import LearnerContext
from lethe.learners.private.accounting import composed, delta_of, epsilon_of, mu_of
from lethe.learners.private.base import PrivateOptions
from lethe.learners.private.dp_finetune import DPFinetune
from lethe.learners.private.noise import RatchetNoise
from lethe.learners.private.unit_features import UnitFeatures
from lethe.runtime.loop import Loop
from lethe.wire import Layout
from tests.support.feeds import LAYOUT as FEED
from tests.support.feeds import ScriptedFeed, segment

LAYOUT = Layout(height=8, width=8, classes=4)
CPU = torch.device("cpu")


def learner(seed: int = 0, **options: Any) -> DPFinetune:
    return DPFinetune(LearnerContext(LAYOUT, seed, options=options))


def images(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_BCHW = torch.randint(256, (count, *LAYOUT.shape), dtype=torch.uint8, generator=generator)
    return x_BCHW, torch.randint(LAYOUT.classes, (count,), generator=generator)


def test_the_noise_is_that_of_zcdp_which_is_somewhat_more_than_continuous_noise_would_need() -> None:
    # Balle & Wang 2018: at ε = 1, δ = 1e-5 the exact deviation of continuous noise is 3.73
    assert 1 / mu_of(1.0, 1e-5) == pytest.approx(4.0451, abs=1e-3)
    assert 3.7306 < 1 / mu_of(1.0, 1e-5) < 1.1 * 3.7306
    assert epsilon_of(0.0, 1e-5) == 0.0
    assert epsilon_of(1e-6, 1e-5) == 0.0


@given(mu=st.floats(1e-3, 50), epsilon=st.floats(0, 100))
def test_no_order_gives_a_smaller_delta_than_the_one_that_is_found(mu: float, epsilon: float) -> None:
    rho, less = mu**2 / 2, np.exp(np.linspace(-20, 20, 20_001))  # α − 1
    order = 1 + less
    log_delta = less * (order * rho - epsilon) - np.log(less) + order * (np.log(less) - np.log1p(less))
    best = min(1.0, math.exp(log_delta.min()))  # of orders a fiftieth of a percent apart
    assert 0.99 * best - 1e-300 <= delta_of(mu, epsilon) <= (1 + 1e-9) * best + 1e-300


@settings(deadline=None)
@given(epsilon=st.floats(0.01, 50), delta=st.sampled_from([1e-3, 1e-5, 1e-9]))
def test_the_noise_for_an_epsilon_costs_that_epsilon_and_never_more(epsilon: float, delta: float) -> None:
    mu = mu_of(epsilon, delta)
    assert delta_of(mu, epsilon) <= delta
    assert epsilon_of(mu, delta) == pytest.approx(epsilon, rel=1e-6)


@pytest.mark.parametrize(("sigma", "releases"), [(1.0, 1), (2.0, 4), (5.0, 100)])
def test_the_account_is_that_of_opacus_which_tries_fewer_orders(sigma: float, releases: int) -> None:
    orders = [1 + x / 100 for x in range(1, 10_000)]
    rdp = compute_rdp(q=1.0, noise_multiplier=sigma, steps=releases, orders=orders)
    theirs, _ = get_privacy_spent(orders=orders, rdp=rdp, delta=1e-5)
    ours = epsilon_of(composed(1 / sigma, releases), 1e-5)
    assert 0.9999 * theirs < ours <= theirs * (1 + 1e-9)


@pytest.mark.parametrize(("mu", "delta"), [(-1.0, 0.1), (1.0, 0.0), (1.0, 1.0)])
def test_an_account_of_nonsense_is_refused(mu: float, delta: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        epsilon_of(mu, delta)


def test_secret_noise_differs_between_learners() -> None:
    one, other = learner(noise="secret"), learner(noise="secret")
    one.learn(*images(8))
    other.learn(*images(8))
    assert not torch.equal(one.state().tensors["weight"], other.state().tensors["weight"])


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000))
def test_features_are_of_length_one_whatever_the_image(seed: int) -> None:
    x_BCHW, _ = images(4, seed)
    x_BCHW[0] = seed % 256  # without any contrast
    x_BCHW[1, :, :, 4:] = 255
    lengths = UnitFeatures(LAYOUT, PrivateOptions(), CPU)(x_BCHW).norm(dim=1)
    assert lengths.max().item() <= 1 + 1e-6
    assert lengths[1:].min().item() == pytest.approx(1, abs=1e-6)


def noise_of(private: DPFinetune, seed: int) -> Tensor:
    """Return the noise of the first batch of a learner with that seed, in units of the grid."""
    return RatchetNoise.seeded(seed).draw(private._grid.variance_bits, *private._weight_KD.shape)


def sum_of(private: DPFinetune, x_BCHW: Tensor, y_B: Tensor) -> Tensor:
    """Return the sum of clipped gradients that a learner adds noise to, in units of the grid."""
    features_BD = private._features(x_BCHW)
    scores_BK = private._options.scale * features_BD.double() @ private._weight_KD.double().T
    return private._clipped(features_BD, scores_BK, y_B)


@pytest.mark.parametrize("clip", [0.5, 2.0, 100.0])
def test_what_gets_noise_is_the_sum_of_the_samples_own_gradients_cut_to_their_length(clip: float) -> None:
    private = learner(clip=clip, noise_multiplier=0.7, learning_rate=0.5)
    private.learn(*images(16, seed=1))
    x_BCHW, y_B = images(24)
    phi_BD = UnitFeatures(LAYOUT, PrivateOptions(), CPU)(x_BCHW).double()
    expected_KD = torch.zeros(private._weight_KD.shape, dtype=torch.float64)
    for phi_D, y in zip(phi_BD, y_B, strict=True):
        weight_KD = private._weight_KD.double().requires_grad_()
        loss = nn.functional.cross_entropy(4.0 * weight_KD @ phi_D, y)
        (gradient_KD,) = torch.autograd.grad(loss, weight_KD)
        expected_KD += gradient_KD * min(1.0, clip / gradient_KD.norm().item())
    found_KD = sum_of(private, x_BCHW, y_B) * clip / private._grid.reach
    assert (found_KD - expected_KD).norm() < 0.005 * expected_KD.norm()


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 1000),
    clip=st.sampled_from([1e-3, 0.5, 2.0, 1e3]),
    multiplier=st.sampled_from([1e-9, 0.3, 0.7, 20.0, 1e4, 1e7]),
)
def test_one_sample_adds_whole_numbers_no_longer_than_the_reach_whatever_the_image(
    seed: int, clip: float, multiplier: float
) -> None:
    private = learner(clip=clip, noise_multiplier=multiplier)
    private._weight_KD += torch.randn(private._weight_KD.shape, generator=torch.Generator().manual_seed(seed))
    x_BCHW, y_B = images(3, seed)
    x_BCHW[0] = seed % 256  # without any contrast
    x_BCHW[1] = 0
    x_BCHW[1, 0, seed % 8, 3] = 255  # a single dot
    for x, y in zip(x_BCHW, y_B, strict=True):
        added_KD = sum_of(private, x[None], y[None])
        assert torch.equal(added_KD, added_KD.round())
        length_squared = sum(int(n) ** 2 for n in added_KD.flatten().tolist())
        assert length_squared <= private._grid.reach**2
    sigma, most = Fraction(2**private._grid.sigma_bits), 2 * private._grid.reach
    assert sigma >= Fraction(multiplier) * most


def test_the_sum_is_the_same_to_the_last_bit_in_any_order() -> None:
    x_BCHW, y_B = images(64)
    private = learner()
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    parts = [sum_of(private, x_BCHW[i : i + 5], y_B[i : i + 5]) for i in range(0, 64, 5)]
    assert torch.equal(sum_of(private, x_BCHW, y_B), sum_of(private, x_BCHW[order], y_B[order]))
    assert torch.equal(sum_of(private, x_BCHW, y_B), torch.stack(parts).sum(0))


def test_every_weight_is_made_from_a_whole_number_which_either_of_two_neighbours_can_have_given() -> None:
    """The attack by last bits (Mironov 2012): which sum plus which noise gives exactly these weights?"""
    x_BCHW, y_B = images(16)
    x_other, y_other = x_BCHW.clone(), y_B.clone()
    x_other[5], y_other[5] = 255 - x_BCHW[5], (y_B[5] + 1) % 4
    for seed in range(4):
        private = learner(seed, momentum=0.0)
        mine, neighbour = sum_of(private, x_BCHW, y_B), sum_of(private, x_other, y_other)
        assert not torch.equal(mine, neighbour)
        private.learn(x_BCHW, y_B)
        unit = 2.0 / private._grid.reach / 16
        noisy = (-private._weight_KD.double() / unit).round()
        # float32 holds 24 bits of it: each whole number that is rounded to this weight was possible
        assert torch.equal(noisy.mul(unit).float().neg(), private._weight_KD)
        assert ((noisy - mine - noise_of(private, seed)).abs() <= noisy.abs() * 2**-23).all()
        for explained_by in (mine, neighbour):
            noise = noisy - explained_by
            assert torch.equal(noise, noise.round()), "noise takes every whole number"
            assert noise.abs().max() < 12 * 2**private._grid.sigma_bits, (
                "so large a sum is practically impossible"
            )


def test_the_noise_in_the_weights_is_what_the_account_says() -> None:
    x_BCHW, y_B = images(10)
    step: dict[str, Any] = {"clip": 1.5, "learning_rate": 1.0, "epsilon": 4.0, "delta": 1e-6}
    weights = []
    for seed in range(40):
        noisy = learner(seed, **step)
        noisy.learn(x_BCHW, y_B)
        weights.append(noisy.state().tensors["weight"].clone())
    deviation = torch.stack(weights).std(0).square().mean().sqrt().item()
    asked = 2 * 1.5 / mu_of(4.0, 1e-6) / 10
    assert deviation == pytest.approx(asked, rel=0.02)


def test_one_pass_costs_each_record_the_same_however_long_it_is() -> None:
    private = learner(epsilon=8.0)
    assert private.privacy().epsilon == 0.0
    for seed in range(5):
        private.learn(*images(8, seed))
        privacy = private.privacy()
        assert privacy.epsilon == pytest.approx(8.0)
        assert not privacy.spent


def test_records_of_one_person_in_more_batches_cost_more_until_all_are_counted() -> None:
    private = learner(epsilon=8.0, appearances=3)
    costs = []
    for seed in range(5):
        private.learn(*images(8, seed))
        costs.append(private.privacy().epsilon)
    assert costs[0] < costs[1] < costs[2] == costs[3] == costs[4]
    assert costs[2] == pytest.approx(8.0)


def test_if_a_person_may_be_in_any_number_of_batches_learning_ends_at_the_budget() -> None:
    private = learner(epsilon=3.5, appearances=0, noise_multiplier=2.0)
    learned = 0
    while not private.privacy().spent:
        private.learn(*images(8, learned))
        learned += 1
        assert private.privacy().epsilon == epsilon_of(0.5 * math.sqrt(learned), 1e-5) <= 3.5
    before = private.state().tensors["weight"].clone()
    assert learned == 2
    with pytest.raises(BudgetSpent, match=r"budget of ε = 3\.5 at δ = 1e-05"):
        private.learn(*images(8))
    assert torch.equal(private.state().tensors["weight"], before)
    again = learner(epsilon=3.5, appearances=0, noise_multiplier=2.0)
    again.load_state(private.state())
    assert again.privacy() == private.privacy()


def test_no_noise_is_enough_for_any_number_of_batches() -> None:
    with pytest.raises(InvalidSetting, match=r"learner\.options\.noise_multiplier: required"):
        learner(appearances=0)


def test_no_loss_is_reported_because_it_would_be_without_noise() -> None:
    assert learner().learn(*images(8)).loss is None


def test_a_run_ends_with_the_budget_and_reports_what_was_spent() -> None:
    events: list[Event] = []
    items = segment("a", 80)
    private = DPFinetune(
        LearnerContext(FEED, options={"epsilon": 3.5, "appearances": 0, "noise_multiplier": 2.0})
    )
    history = History([])
    loop = Loop(ScriptedFeed(items), private, None, 100, history, events.append, stopping=lambda: False)
    loop.run()
    accounts = [event for event in events if isinstance(event, PrivacySpent)]
    assert [event.spent for event in accounts] == [False, False, True]
    assert accounts[0].epsilon == 0 < accounts[1].epsilon < accounts[2].epsilon <= accounts[2].budget == 3.5
    assert history.samples == 16, "two batches"
    loop.run()  # a restart learns nothing more
    assert history.samples == 16
