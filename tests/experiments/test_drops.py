"""The simulation of the sequential test."""

import numpy as np
import pytest

from lethe.experiments.bench.drops import DropBench, false_alarms, fixed_subset, images_to_find

SMALL = DropBench(lives=200, rounds=500)


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.3])
def test_false_alarms_are_rarer_than_alpha(noise: float) -> None:
    assert false_alarms(SMALL, noise) <= SMALL.alpha


@pytest.mark.long
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.3])
def test_false_alarms_of_ten_thousand_hours_are_rarer_than_alpha(noise: float) -> None:
    assert false_alarms(DropBench(), noise) <= DropBench.alpha


def test_a_drop_takes_more_images_the_later_it_comes_and_fewer_the_larger_it_is() -> None:
    soon, late = (np.median(images_to_find(SMALL, quiet)) for quiet in (0, 500))
    large = np.median(images_to_find(DropBench(lives=200, rounds=500, drop=0.5, sample=1), 0))
    assert large < 30 < soon < late


def test_a_fixed_subset_finds_the_drop_as_often_as_it_says() -> None:
    bench, random = DropBench(), np.random.default_rng(0)
    size = fixed_subset(bench, paired=True)
    limit = size * bench.tolerance + 4.4172 * np.sqrt(
        size * (bench.noise + bench.tolerance)
    )  # 1 - α / rounds
    counts = random.multinomial(size, [0.06, 0.01, 0.93], size=4000)
    assert ((counts[:, 0] - counts[:, 1]) > limit).mean() == pytest.approx(0.95, abs=0.02)
    assert size < fixed_subset(bench, paired=False)
