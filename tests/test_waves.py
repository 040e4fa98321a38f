"""Random waves along orthogonal directions."""

import pytest
import torch

from service.learners.products import rounded, unit
from service.learners.waves import RandomWaves

CPU = torch.device("cpu")


def waves(weights: torch.Tensor, count: int) -> RandomWaves:
    return RandomWaves(weights, count, torch.Generator().manual_seed(0), CPU)


def seen(rows: int, coefficients: int) -> torch.Tensor:
    return rounded(torch.rand(rows, coefficients, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize(("coefficients", "count"), [(300, 700), (512, 10), (3969, 4600), (1, 2), (5, 0)])
def test_a_row_has_the_same_waves_alone_and_among_many(coefficients: int, count: int) -> None:
    weights = torch.full((coefficients,), 3 / coefficients**0.5)
    weights[: coefficients // 3] *= 0.5
    drawn, x = waves(weights, count), seen(40, coefficients)
    with unit():  # what it multiplies, it rounds: a product of numbers of more bits would be seen
        many = drawn(x)
        one_by_one = torch.cat([drawn(row) for row in torch.split(x, 1)])
    assert many.shape == (40, count)
    torch.testing.assert_close(one_by_one, many, atol=1e-5, rtol=0)


def test_the_directions_are_orthogonal_and_of_the_length_that_was_asked_for() -> None:
    drawn = waves(torch.full((256,), 0.25), 256)
    steps = torch.cat((torch.zeros(1, 256), 1e-3 * torch.eye(256)))
    angles = drawn(steps).double().acos()
    sine = drawn(steps[:1]).double().acos().sin()
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
    phi = drawn(x).double()
    kernel = torch.exp(-(scale**2) * torch.cdist(x.double(), x.double()).square() / 2)
    torch.testing.assert_close(2 * phi @ phi.T / drawn.count, kernel, atol=0.03, rtol=0)


def test_a_coefficient_of_half_the_weight_turns_a_wave_half_as_far() -> None:
    x, halved = seen(3, 64), torch.ones(64)
    halved[:32] = 0.5
    torch.testing.assert_close(waves(halved, 80)(x), waves(torch.ones(64), 80)(x * halved))
