"""Noise on a grid: exactly the discrete Gaussian, from whole numbers alone, and independent of all before."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.stats import chi2, kstest

from lethe.learners.private.discrete_gaussian import (
    MOST_BITS,
    Words,
    _below,
    _bernoulli,
    _bernoulli_exp,
    _exp_bits,
    _exp_table,
    _exponential_floor,
    discrete_gaussian,
)
from lethe.learners.private.noise import RatchetNoise

LARGEST = (1 << 32) - 1


def words(seed: int) -> Words:
    generator = np.random.default_rng(seed)
    return lambda count: generator.integers(0, 1 << 32, count, dtype=np.uint32)


def scripted(*numbers: int) -> Words:
    """Words that are given beforehand; more than those are an error."""
    left: Iterator[int] = iter(numbers)
    return lambda count: np.array([next(left) for _ in range(count)], np.uint32)


def chi_square_fits(counted: np.ndarray, expected: np.ndarray) -> bool:
    """Return whether counts are as expected, for every value that is expected often enough."""
    often = expected >= 10
    rest = np.array([counted[~often].sum()]), np.array([max(expected[~often].sum(), 1e-9)])
    counted, expected = np.append(counted[often], rest[0]), np.append(expected[often], rest[1])
    use = expected >= 10
    statistic = float(((counted - expected)[use] ** 2 / expected[use]).sum())
    return statistic < chi2.isf(1e-6, int(use.sum()) - 1)


@pytest.mark.parametrize("variance_bits", [0, 1, 2, 3, 4, 7])
def test_samples_have_the_exact_probabilities_of_the_discrete_gaussian(variance_bits: int) -> None:
    count = 300_000
    drawn = discrete_gaussian(variance_bits, count, words(variance_bits))
    assert drawn.dtype == np.int64
    assert drawn.shape == (count,)
    far = math.ceil(12 * 2 ** (variance_bits / 2))
    assert np.abs(drawn).max() < far
    weights = np.exp(-(np.arange(-far, far + 1) ** 2) / 2 ** (variance_bits + 1))
    assert chi_square_fits(np.bincount(drawn + far, minlength=2 * far + 1), count * weights / weights.sum())


@pytest.mark.parametrize("variance_bits", [MOST_BITS - 1, MOST_BITS])
def test_wide_samples_are_as_good_as_normal_and_their_last_bits_as_good_as_uniform(
    variance_bits: int,
) -> None:
    drawn = discrete_gaussian(variance_bits, 200_000, words(variance_bits))
    assert kstest(drawn / 2 ** (variance_bits / 2), "norm").pvalue > 1e-4
    assert chi_square_fits(np.bincount(drawn & 255, minlength=256), np.full(256, len(drawn) / 256))


@pytest.mark.parametrize("variance_bits", [-1, MOST_BITS + 1])
def test_other_variances_are_refused(variance_bits: int) -> None:
    with pytest.raises(ValueError, match="2\\^0 to 2\\^50"):
        discrete_gaussian(variance_bits, 1, words(0))


@pytest.mark.parametrize("gamma", [0.0, 0.25, 1.0, 1.75, 3.5])
def test_a_trial_succeeds_with_the_probability_of_the_exponential(gamma: float) -> None:
    count = 200_000
    successes = _bernoulli_exp(np.full(count, int(gamma * 8), np.uint64), 3, words(1)).sum()
    p = math.exp(-gamma)
    assert abs(successes - count * p) <= 5 * math.sqrt(count * p * (1 - p))


def test_a_number_is_compared_with_a_probability_to_the_last_bit() -> None:
    # p = numerator / (3 · 2⁶²), whose first 32 bits, next 30 bits and rest of a third are looked at in turn
    numerator = np.array([3 * ((5 << 30) + 7) + 2], np.uint64)

    def true(*drawn: int) -> bool:
        return bool(_bernoulli(numerator, 3, scripted(*drawn))[0])

    assert true(4)
    assert not true(6)
    assert true(5, 6 << 2)
    assert true(5, (6 << 2) + 3), "two bits are not looked at"
    assert not true(5, 8 << 2)
    assert true(5, 7 << 2, 0)
    assert true(5, 7 << 2, 1)
    assert not true(5, 7 << 2, 2)


def test_a_number_below_three_is_never_taken_from_what_is_left_over() -> None:
    assert LARGEST % 3 == 0, "so the largest word would be one 0 too many"
    assert _below(3, scripted(LARGEST, 4)) == 1


def test_powers_of_e_are_compared_to_as_many_bits_as_it_takes() -> None:
    table = _exp_table()
    first = int(table[-1])
    assert first == math.floor(math.exp(-1) * 2**32)
    assert len(table) == 23
    assert all(_exp_bits(n, 32, "ROUND_CEILING") == 1 + _exp_bits(n, 32, "ROUND_FLOOR") for n in range(1, 40))
    next_bits = _exp_bits(1, 64, "ROUND_FLOOR") & LARGEST

    def floor(*drawn: int) -> int:
        return int(_exponential_floor(1, scripted(*drawn))[0])

    assert floor(first + 1) == 0
    assert floor(first - 1) == 1
    assert floor(first, next_bits - 1) == 1
    assert floor(first, next_bits + 1) == 0
    assert floor(first, next_bits, 0) == 1
    assert floor(0, LARGEST) == 22, "e⁻²² is above 2⁻³², e⁻²³ is not"
    assert floor(0, 0, 1 << 31) == 45, "a number is as small as it happens to be"


def test_seeded_noise_goes_on_from_its_key_and_secret_noise_has_none() -> None:
    noise, other = RatchetNoise.seeded(3), RatchetNoise.seeded(4)
    first = noise.draw(4, 5, 7)
    assert first.shape == (5, 7)
    assert first.dtype == torch.int64
    other.load_state(noise.state())
    assert torch.equal(other.draw(20, 50), noise.draw(20, 50))
    assert not torch.equal(noise.draw(20, 50), noise.draw(20, 50))
    assert torch.equal(RatchetNoise.seeded(3).draw(4, 5, 7), first)
    secret, another = RatchetNoise.from_system(), RatchetNoise.from_system()
    assert secret.secret
    assert secret.state() == {}
    secret.load_state(noise.state())
    another.load_state(noise.state())
    assert not torch.equal(secret.draw(20, 50), another.draw(20, 50))
