"""A surge of the gradient is noticed at once, noise is not, and nothing is for a while after."""

import numpy as np
import pytest

from lethe.drift.surge import FACTOR, WAIT, SurgeTest


def of_batches(lengths: list[float]) -> list[int]:
    test = SurgeTest()
    return [number for number, length in enumerate(lengths) if test.add(length) is not None]


def test_the_first_long_gradient_is_a_surge() -> None:
    dice = np.random.default_rng(0)
    lengths = dice.gamma(9, 0.2, size=400).tolist()
    lengths[300:] = [FACTOR * 2.5 for _ in lengths[300:]]
    assert of_batches(lengths) == [300]


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_none(seed: int) -> None:
    lengths = np.random.default_rng(seed).gamma(9, 0.2, size=2000)
    assert of_batches(lengths.tolist()) == []
    assert of_batches((lengths * np.linspace(3, 0.1, 2000)).tolist()) == [], "a loss that falls slowly"


def test_it_waits_at_the_start_and_after_a_warning() -> None:
    assert of_batches([1.0, 100.0, *[1.0] * (2 * WAIT)]) == []
    lengths = [1.0] * WAIT + [10.0] + [1.0] * (WAIT - 2) + [10.0]
    assert of_batches(lengths) == [WAIT]
    lengths = [1.0] * WAIT + [10.0] + [1.0] * (4 * WAIT) + [10.0]
    assert of_batches(lengths) == [WAIT, 5 * WAIT + 1]


def test_the_ratio_is_to_the_mean_before() -> None:
    test = SurgeTest()
    for _ in range(WAIT):
        assert test.add(2.0) is None
    assert test.add(2 * FACTOR) is None, "not above"
    assert SurgeTest().add(0.0) is None
    other = SurgeTest()
    for _ in range(WAIT):
        other.add(2.0)
    assert other.add(12.0) == pytest.approx(6)
