"""Random waves along orthogonal directions."""

import math

import pytest
import torch
from torch import Tensor

from lethe.learners.features.compression import COSINE_BITS, LARGEST
from lethe.learners.features.random_fourier import TURN, RandomFourierFeatures

CPU = torch.device("cpu")
RADIAN = TURN / (2 * math.pi)


def waves(coefficients: int, count: int) -> RandomFourierFeatures:
    return RandomFourierFeatures(coefficients, count, torch.Generator().manual_seed(0), CPU)


def angles(rows: int, coefficients: int, most: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(most, (rows, coefficients), generator=generator).to(torch.int32)


@pytest.mark.parametrize(("coefficients", "count"), [(300, 700), (512, 10), (3969, 4600), (1, 2), (5, 0)])
def test_a_row_has_the_same_waves_alone_and_among_many(coefficients: int, count: int) -> None:
    drawn, x = waves(coefficients, count), angles(40, coefficients, 1 << 31)  # the sums wrap around often
    many = drawn(x)
    assert many.shape == (40, count)
    assert torch.equal(torch.cat([drawn(row) for row in torch.split(x, 1)]), many)


def test_a_wave_is_the_cosine_of_the_sum_that_its_direction_takes() -> None:
    drawn, n = waves(64, 64), 64
    phases = drawn(torch.zeros(1, n, dtype=torch.int32))
    hadamard = torch.ones(1, 1)
    while len(hadamard) < n:
        hadamard = torch.cat((torch.cat((hadamard, hadamard), 1), torch.cat((hadamard, -hadamard), 1)))
    x = angles(30, n, int(0.1 * RADIAN))
    signs = torch.randint(2, (2, 1, n), generator=torch.Generator().manual_seed(0)).mul(2).sub(1).double()
    sums = (hadamard.double() * signs[1, 0]) @ (hadamard.double() * signs[0, 0]) @ x.double().T
    phase = drawn._phases_W.double()
    expected = LARGEST * torch.cos((sums.T + phase) / RADIAN)
    step = LARGEST * 2 * math.pi / (1 << COSINE_BITS)
    assert (drawn(x).double() - expected).abs().max() <= 0.5 + step
    assert (phases.double() - LARGEST * torch.cos(phase / RADIAN)).abs().max() <= 0.5 + step


def test_products_of_waves_approach_the_gaussian_kernel_of_the_angles() -> None:
    length, coefficients = 0.3, 200
    drawn = waves(coefficients, 20_000)
    x = torch.rand(6, coefficients, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    turned = (x * length * RADIAN / math.sqrt(drawn.length)).round().to(torch.int32)
    phi = drawn(turned).double() / LARGEST
    kernel = torch.exp(-(length**2) * torch.cdist(x, x).square() / 2)
    torch.testing.assert_close(2 * phi @ phi.T / drawn.count, kernel, atol=0.03, rtol=0)
