"""Differentially private learning: noise that covers every sample, its account, and its end."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent
from torch import Tensor

from service.errors import BudgetSpent, InvalidSetting
from service.evaluation.history import History
from service.events import Event, PrivacySpent
from service.learners.accounting import composed, delta_of, epsilon_of, mu_of
from service.learners.base import LearnerContext
from service.learners.bounded import UnitFeatures
from service.learners.dp_finetune import DPFinetune
from service.learners.noise import RatchetNoise
from service.loop import Loop
from service.wire import Layout
from tests.feeds import LAYOUT as FEED
from tests.feeds import MemoryFeed, segment

LAYOUT = Layout(height=8, width=8, classes=4)
CPU = torch.device("cpu")


def learner(seed: int = 0, **options: Any) -> DPFinetune:
    return DPFinetune(LearnerContext(LAYOUT, seed, options=options))


def images(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_BCHW = torch.randint(256, (count, *LAYOUT.shape), dtype=torch.uint8, generator=generator)
    return x_BCHW, torch.randint(LAYOUT.classes, (count,), generator=generator)


def test_epsilon_of_a_gaussian_mechanism_is_the_published_one() -> None:
    # Balle & Wang 2018: at ε = 1, δ = 1e-5 the exact deviation is 3.73, the classical one 4.84
    assert 1 / mu_of(1.0, 1e-5) == pytest.approx(3.7306, abs=1e-3)
    assert epsilon_of(0.0, 1e-5) == 0.0
    assert epsilon_of(1e-6, 1e-5) == 0.0


@settings(deadline=None)
@given(epsilon=st.floats(0.01, 50), delta=st.sampled_from([1e-3, 1e-5, 1e-9]))
def test_the_noise_for_an_epsilon_costs_that_epsilon_and_never_more(epsilon: float, delta: float) -> None:
    mu = mu_of(epsilon, delta)
    assert delta_of(mu, epsilon) <= delta
    assert epsilon_of(mu, delta) == pytest.approx(epsilon, rel=1e-6)


@pytest.mark.parametrize(("sigma", "releases"), [(1.0, 1), (2.0, 4), (5.0, 100)])
def test_the_account_is_never_above_that_of_opacus_and_close_to_it(sigma: float, releases: int) -> None:
    orders = [1 + x / 10 for x in range(1, 1000)]
    rdp = compute_rdp(q=1.0, noise_multiplier=sigma, steps=releases, orders=orders)
    theirs, _ = get_privacy_spent(orders=orders, rdp=rdp, delta=1e-5)
    ours = epsilon_of(composed(1 / sigma, releases), 1e-5)
    assert 0.85 * theirs < ours <= theirs


@pytest.mark.parametrize(("mu", "delta"), [(-1.0, 0.1), (1.0, 0.0), (1.0, 1.0)])
def test_an_account_of_nonsense_is_refused(mu: float, delta: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        epsilon_of(mu, delta)


def test_noise_is_normal_and_goes_on_from_its_key() -> None:
    noise = RatchetNoise.seeded(3)
    first = noise.normal(501, 401)
    assert first.shape == (501, 401)
    assert abs(first.mean().item()) < 0.01
    assert first.std().item() == pytest.approx(1, abs=0.01)
    assert ((first > 1.96).double().mean().item()) == pytest.approx(0.025, abs=0.002)
    other = RatchetNoise.seeded(4)
    other.key = noise.key
    assert torch.equal(other.normal(5), noise.normal(5))
    assert not torch.equal(noise.normal(5), noise.normal(5))


def test_secret_noise_is_nobody_s_twice() -> None:
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
    lengths = UnitFeatures(LAYOUT, CPU)(x_BCHW).norm(dim=1)
    assert lengths.max().item() <= 1 + 1e-6
    assert lengths[1:].min().item() == pytest.approx(1, abs=1e-6)


def test_another_sample_in_its_place_moves_the_weights_by_two_clipping_lengths_at_most() -> None:
    x_BCHW, y_B = images(16)
    step: dict[str, Any] = {
        "clip": 0.5,
        "learning_rate": 1.0,
        "scale": 100.0,
    }  # long features: every gradient is cut
    one, other = learner(**step), learner(**step)
    one.learn(x_BCHW, y_B)
    x_BCHW[5] = 255 - x_BCHW[5]
    y_B[5] = (y_B[5] + 1) % 4
    other.learn(x_BCHW, y_B)
    moved = (one.state().tensors["weight"] - other.state().tensors["weight"]).norm().item()
    assert 0.5 / 16 < moved <= 2 * 0.5 / 16 * (1 + 1e-4)


def test_the_noise_in_the_weights_is_what_the_account_says() -> None:
    x_BCHW, y_B = images(10)
    step: dict[str, Any] = {"clip": 1.5, "learning_rate": 1.0, "epsilon": 4.0, "delta": 1e-6}
    weights = []
    for seed in range(40):
        noisy = learner(seed, **step)
        noisy.learn(x_BCHW, y_B)
        weights.append(noisy.state().tensors["weight"].clone())
    deviation = torch.stack(weights).std(0).square().mean().sqrt().item()
    assert deviation == pytest.approx(2 * 1.5 / mu_of(4.0, 1e-6) / 10, rel=0.02)


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


def test_where_a_person_may_be_in_any_number_of_batches_learning_ends_at_the_budget() -> None:
    private = learner(epsilon=3.0, appearances=0, noise_multiplier=2.0)
    learned = 0
    while not private.privacy().spent:
        private.learn(*images(8, learned))
        learned += 1
        assert private.privacy().epsilon == epsilon_of(0.5 * math.sqrt(learned), 1e-5) <= 3.0
    before = private.state().tensors["weight"].clone()
    assert learned == 2
    with pytest.raises(BudgetSpent, match="budget of ε = 3 at δ = 1e-05"):
        private.learn(*images(8))
    assert torch.equal(private.state().tensors["weight"], before)
    again = learner(epsilon=3.0, appearances=0, noise_multiplier=2.0)
    again.load_state(private.state())
    assert again.privacy() == private.privacy()


def test_no_noise_is_enough_for_any_number_of_batches() -> None:
    with pytest.raises(InvalidSetting, match=r"learner\.options\.noise_multiplier: needed"):
        learner(appearances=0)


def test_no_loss_is_reported_because_it_would_be_without_noise() -> None:
    assert learner().learn(*images(8)).loss is None


def test_a_run_ends_where_the_budget_does_and_tells_what_was_spent() -> None:
    events: list[Event] = []
    items = segment("a", 80)
    private = DPFinetune(
        LearnerContext(FEED, options={"epsilon": 3.0, "appearances": 0, "noise_multiplier": 2.0})
    )
    history = History([])
    loop = Loop(MemoryFeed(items), private, None, 100, history, events.append, stopping=lambda: False)
    loop.run()
    told = [event for event in events if isinstance(event, PrivacySpent)]
    assert [event.spent for event in told] == [False, False, True]
    assert told[0].epsilon == 0 < told[1].epsilon < told[2].epsilon <= told[2].budget == 3.0
    assert history.samples == 16, "two batches"
    loop.run()  # a restart learns nothing more
    assert history.samples == 16
