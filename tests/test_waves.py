"""Random waves along orthogonal directions."""

import pytest
import torch

from service.learners.products import rounded, unit
from service.learners.waves import FEW, PIECE, RandomWaves

CPU = torch.device("cpu")


def waves(weights: torch.Tensor, count: int) -> RandomWaves:
    return RandomWaves(weights, count, torch.Generator().manual_seed(0), CPU)


def seen(rows: int, coefficients: int) -> torch.Tensor:
    return rounded(torch.rand(rows, coefficients, generator=torch.Generator().manual_seed(1)))


def in_pieces(drawn: RandomWaves, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([drawn(x, first) for first in range(0, drawn.count, PIECE)], 1)


@pytest.mark.parametrize(("coefficients", "count"), [(300, 700), (512, 10), (3969, 4600), (1, 2)])
def test_few_rows_give_the_waves_that_the_matrix_gives_which_eight_bits_hold_exactly(
    coefficients: int, count: int
) -> None:
    weights = torch.full((coefficients,), 3 / coefficients**0.5)
    weights[: coefficients // 3] *= 0.5
    drawn, x = waves(weights, count), seen(FEW, coefficients)
    with unit():  # what it is given, it rounds: a matrix of more bits would be seen
        expected = in_pieces(drawn, x)
        few = drawn.of_few(x)
    assert few.shape == (FEW, count)
    torch.testing.assert_close(few, expected, atol=1e-4, rtol=0)


def test_no_waves_are_none() -> None:
    assert waves(torch.ones(5), 0).of_few(seen(2, 5)).shape == (2, 0)


def test_the_directions_are_orthogonal_and_of_the_length_that_was_asked_for() -> None:
    drawn = waves(torch.full((256,), 0.25), 256)
    steps = torch.cat((torch.zeros(1, 256), 1e-3 * torch.eye(256)))
    angles = drawn.of_few(steps).double().acos()
    sine = drawn.of_few(steps[:1]).double().acos().sin()
    steep = sine.squeeze() > 0.3  # elsewhere, the cosine hardly tells the angle
    directions = ((angles[1:] - angles[0]) / 1e-3).T[steep]
    gram = directions @ directions.T
    torch.testing.assert_close(
        gram.diagonal().sqrt(), torch.full((len(gram),), 0.25 * 16).double(), rtol=2e-2, atol=0
    )
    assert (gram - gram.diagonal().diag()).abs().max() < 0.02 * gram.diagonal().min()


def test_products_of_waves_approach_the_gaussian_kernel_of_what_they_saw() -> None:
    scale, x = 0.3, seen(6, 200)
    drawn = waves(torch.full((200,), scale), 20_000)
    phi = drawn.of_few(x).double()
    kernel = torch.exp(-(scale**2) * torch.cdist(x.double(), x.double()).square() / 2)
    torch.testing.assert_close(2 * phi @ phi.T / drawn.count, kernel, atol=0.03, rtol=0)


def test_a_coefficient_of_half_the_weight_turns_a_wave_half_as_far() -> None:
    x, halved = seen(3, 64), torch.ones(64)
    halved[:32] = 0.5
    torch.testing.assert_close(waves(halved, 80).of_few(x), waves(torch.ones(64), 80).of_few(x * halved))
