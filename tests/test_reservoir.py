"""The reservoir: every sample of the stream is equally likely to be kept, and no more are than fit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from service.learners.reservoir import Column, Reservoir

COLUMNS = {"pixels": Column((2,), torch.uint8), "label": Column((), torch.int64)}


def fill(reservoir: Reservoir, sizes: list[int], seed: int = 0) -> None:
    """Offer numbered samples in batches; the number is in both columns."""
    dice = torch.Generator().manual_seed(seed)
    for size in sizes:
        number = torch.arange(reservoir.offered, reservoir.offered + size)
        reservoir.offer({"pixels": (number % 256).to(torch.uint8).repeat(2, 1).T, "label": number}, dice)


def kept(reservoir: Reservoir) -> list[int]:
    return reservoir.tensors()["reservoir.label"][: len(reservoir)].tolist()


@settings(max_examples=50, deadline=None)
@given(capacity=st.integers(1, 20), sizes=st.lists(st.integers(1, 30), max_size=8), seed=st.integers(0, 9))
def test_it_holds_different_samples_of_those_offered_and_never_more_than_fit(
    capacity: int, sizes: list[int], seed: int
) -> None:
    reservoir = Reservoir(capacity, COLUMNS)
    fill(reservoir, sizes, seed)
    labels = kept(reservoir)
    assert len(labels) == min(capacity, sum(sizes))
    assert len(set(labels)) == len(labels)
    assert set(labels) <= set(range(sum(sizes)))
    assert all(len(rows) == capacity for rows in reservoir.tensors().values())


def test_until_it_is_full_everything_is_kept() -> None:
    reservoir = Reservoir(10, COLUMNS)
    fill(reservoir, [3, 4, 3])
    assert kept(reservoir) == list(range(10))


def test_the_columns_of_a_sample_stay_together() -> None:
    reservoir = Reservoir(10, COLUMNS)
    fill(reservoir, [7, 64, 64, 100])
    drawn = reservoir.draw(100, torch.Generator().manual_seed(1))
    assert torch.equal(drawn["pixels"], (drawn["label"] % 256).to(torch.uint8).repeat(2, 1).T)


def test_every_sample_is_equally_likely_to_be_kept() -> None:
    """χ² of how often each of 200 samples is kept in 800 reservoirs of 20; seeded, so it cannot flicker.

    Sampling without replacement makes the counts a little more even than χ² expects: (1 − 20/200) of it.
    """
    trials, capacity, count = 800, 20, 200
    counts = torch.zeros(count)
    for seed in range(trials):
        reservoir = Reservoir(capacity, COLUMNS)
        fill(reservoir, [30, 1, 90, 79], seed)
        counts[kept(reservoir)] += 1
    expected = trials * capacity / count
    statistic = float(((counts - expected) ** 2 / expected).sum()) / (1 - capacity / count)
    assert 147 < statistic < 258  # 0.2 % and 99.8 % of χ² with 199 degrees of freedom


def test_every_sample_kept_is_equally_likely_to_be_drawn() -> None:
    reservoir = Reservoir(50, COLUMNS)
    fill(reservoir, [50])
    counts = torch.bincount(reservoir.draw(50_000, torch.Generator().manual_seed(0))["label"], minlength=50)
    statistic = float(((counts - 1000) ** 2 / 1000).sum())
    assert 26 < statistic < 81  # 0.2 % and 99.8 % of χ² with 49 degrees of freedom


def test_what_was_offered_may_be_overwritten() -> None:
    reservoir = Reservoir(4, COLUMNS)
    samples = {"pixels": torch.full((4, 2), 7, dtype=torch.uint8), "label": torch.arange(4)}
    reservoir.offer(samples, torch.Generator())
    samples["pixels"].zero_()
    samples["label"].zero_()
    assert kept(reservoir) == [0, 1, 2, 3]
    assert bool((reservoir.tensors()["reservoir.pixels"] == 7).all())


def test_a_capacity_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity is 0"):
        Reservoir(0, COLUMNS)
