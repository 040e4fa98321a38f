"""Private ridge regression: noise that is there before the first sample, and an account of it."""

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lethe.errors import BudgetSpent
from lethe.learners.base import LearnerContext
from lethe.learners.private.accounting import mu_of
from lethe.learners.private.base import PrivateOptions
from lethe.learners.private.dp_ridge import SQUARED_SENSITIVITY, DPRidge
from lethe.learners.private.unit_features import UnitFeatures
from lethe.learners.state import State
from lethe.wire import Layout

LAYOUT = Layout(height=8, width=8, classes=4)
CPU = torch.device("cpu")
SENSITIVITY = math.sqrt(SQUARED_SENSITIVITY)
BLOCKS = {"first_block": 32, "largest_block": 64}


def learner(seed: int = 0, **options: Any) -> DPRidge:
    return DPRidge(LearnerContext(LAYOUT, seed, options=BLOCKS | options))


def images(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_BCHW = torch.randint(256, (count, *LAYOUT.shape), dtype=torch.uint8, generator=generator)
    return x_BCHW, torch.randint(LAYOUT.classes, (count,), generator=generator)


def sums(phi_BD: Tensor, y_B: Tensor) -> Tensor:
    B_DK = phi_BD.T @ nn.functional.one_hot(y_B, 4).to(phi_BD)
    return torch.cat([(phi_BD.T @ phi_BD).flatten(), B_DK.flatten()])


@settings(deadline=None)
@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1), st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_no_record_in_place_of_another_moves_the_sums_by_more(
    cosine: float, one: float, other: float, labels: tuple[int, int]
) -> None:
    phi = torch.tensor([[one, 0.0]], dtype=torch.float64)
    psi = torch.tensor([[cosine, math.sqrt(1 - cosine**2)]], dtype=torch.float64) * other
    y, z = (torch.tensor([label]) for label in labels)
    assert (sums(phi, y) - sums(psi, z)).norm().item() <= SENSITIVITY * (1 + 1e-12)


def test_that_bound_is_reached() -> None:
    phi, psi = torch.tensor([[1.0, 0.0]]), torch.tensor([[-0.5, math.sqrt(0.75)]])
    y = torch.tensor([1])
    assert (sums(phi, y) - sums(psi, y)).norm().item() == pytest.approx(SENSITIVITY)


def test_noise_of_the_stated_deviation_is_there_before_the_first_sample_and_is_symmetric() -> None:
    state = learner(epsilon=4.0, delta=1e-6).state().tensors
    A, B = state["block.A"], state["block.B"]
    deviation = SENSITIVITY / mu_of(4.0, 1e-6) * learner(epsilon=4.0, delta=1e-6)._length ** 2
    assert torch.equal(A, A.T)
    assert torch.equal(A, A.round())
    above = A[torch.ones_like(A, dtype=torch.bool).triu(1)]
    assert above.std().item() == pytest.approx(deviation / math.sqrt(2), rel=0.05)
    assert A.diagonal().std().item() == pytest.approx(deviation, rel=0.25)
    assert B.std().item() == pytest.approx(deviation, rel=0.15)


def test_a_finished_block_is_the_exact_sum_and_the_noise_it_began_with() -> None:
    private = learner()
    noise = private.state().tensors["block.A"].clone()
    x_BCHW, y_B = images(32)
    for x, y in zip(torch.split(x_BCHW, 8), torch.split(y_B, 8), strict=True):
        assert not private.state().tensors["A"].any(), "nothing is known before the block is finished"
        private.learn(x, y)
    q = private._whole(x_BCHW).to(torch.int64)
    assert torch.equal(private.state().tensors["A"], (q.T @ q + noise).double())
    phi = UnitFeatures(LAYOUT, PrivateOptions(), CPU)(x_BCHW)
    torch.testing.assert_close(q / private._length, phi, atol=0.006, rtol=0)
    assert not torch.equal(private.state().tensors["block.A"], noise), "the next block has noise of its own"


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 1000), multiplier=st.sampled_from([1e-9, 0.3, 0.7, 20.0, 1e4, 1e7]))
def test_features_on_the_grid_are_whole_and_no_longer_than_the_account_says_whatever_the_image(
    seed: int, multiplier: float
) -> None:
    private = learner(noise_multiplier=multiplier)
    x_BCHW, _ = images(3, seed)
    x_BCHW[0] = seed % 256
    x_BCHW[1] = 0
    x_BCHW[1, 0, seed % 8, 3] = 255
    q_BD = private._whole(x_BCHW)
    assert torch.equal(q_BD, q_BD.round())
    assert q_BD.abs().max() <= 255
    for q_D in q_BD.tolist():
        assert sum(int(q) ** 2 for q in q_D) <= private._length**2
    sigma_squared = Fraction(4**private._grid.sigma_bits)
    assert sigma_squared >= Fraction(multiplier) ** 2 * Fraction(9, 2) * private._length**4


def test_sums_are_exact_where_float32_is_at_its_limit() -> None:
    private = learner(first_block=1024, largest_block=1024)
    private._block_A_DD.zero_()
    private._block_B_DK.zero_()
    q_BD = torch.full((600, len(private._A_DD)), 255.0)
    y_BK = torch.zeros(600, 4)
    y_BK[:, 2] = 1
    private._add(q_BD, y_BK)
    assert (private._block_A_DD == 600 * 255**2).all()
    assert (private._block_B_DK[:, 2] == 600 * 255 * private._length).all()


def test_a_state_of_before_the_grid_goes_on_in_its_units() -> None:
    private, other = learner(), learner()
    state = private.state()
    old = {
        name: (tensor / private._length**2).to(torch.float32) if tensor.dtype == torch.float64 else tensor
        for name, tensor in state.tensors.items()
    }
    other.load_state(State(old, {"blocks": 0, "in_block": 0}))
    torch.testing.assert_close(
        other.state().tensors["block.A"], state.tensors["block.A"], rtol=1e-6, atol=1.0
    )
    other.learn(*images(32))
    assert other.state().values["blocks"] == 1


def test_blocks_double_up_to_the_largest() -> None:
    private = learner()
    finished = []
    for count in range(1, 41):
        private.learn(*images(8, count))
        finished.append(private.state().values["blocks"])
    ends = [8 * (n + 1) for n in range(1, 40) if finished[n] != finished[n - 1]]
    assert ends == [32, 96, 160, 224, 288]


def test_each_record_costs_one_release_however_long_the_stream_is() -> None:
    private = learner(epsilon=2.0)
    assert private.privacy().epsilon == 0.0
    for seed in range(30):
        private.learn(*images(8, seed))
        assert private.privacy().epsilon == pytest.approx(2.0)
        assert not private.privacy().spent


def test_learning_ends_at_the_end_of_the_last_block_that_the_budget_pays_for() -> None:
    private = learner(epsilon=3.5, appearances=0, noise_multiplier=2.0)
    samples = 0
    while not private.privacy().spent:
        private.learn(*images(8, samples))
        samples += 8
    assert samples == 32 + 64
    with pytest.raises(BudgetSpent):
        private.learn(*images(8))


def test_with_little_noise_it_predicts_as_the_exact_solution_does() -> None:
    x_BCHW, y_B = images(96)
    private = learner(epsilon=1e9)
    for x, y in zip(torch.split(x_BCHW, 32), torch.split(y_B, 32), strict=True):
        private.learn(x, y)
    phi = private._whole(x_BCHW) / private._length
    penalty = 0.125 * SENSITIVITY / mu_of(1e9, 1e-5) * math.sqrt(2 * 2 * phi.shape[1])  # two blocks
    A = phi.T @ phi + penalty * torch.eye(phi.shape[1])
    W = torch.linalg.solve(A, phi.T @ nn.functional.one_hot(y_B, 4).float())
    agree = private.predict_proba(x_BCHW).argmax(1) == (phi @ W).argmax(1)
    assert agree.double().mean() > 0.95
