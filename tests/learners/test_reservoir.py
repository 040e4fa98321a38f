"""The reservoir: every sample of the stream is equally likely to be stored, up to the capacity."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lethe.learners.gradient.reservoir import Column, Reservoir

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
def test_it_holds_distinct_samples_up_to_its_capacity(capacity: int, sizes: list[int], seed: int) -> None:
    reservoir = Reservoir(capacity, COLUMNS)
    fill(reservoir, sizes, seed)
    labels = kept(reservoir)
    assert len(labels) == min(capacity, sum(sizes))
    assert len(set(labels)) == len(labels)
    assert set(labels) <= set(range(sum(sizes)))
    assert all(len(reservoir.tensors()[f"reservoir.{name}"]) == capacity for name in COLUMNS)


def test_expired_rows_are_zero_and_newer_ones_stay() -> None:
    reservoir = Reservoir(10, COLUMNS)
    fill(reservoir, [8])
    assert reservoir.expire(3) == 3
    assert kept(reservoir) == [3, 4, 5, 6, 7]
    assert (
        reservoir.tensors()["reservoir.pixels"].tolist() == [[n, n] for n in (3, 4, 5, 6, 7)] + [[0, 0]] * 5
    )
    assert reservoir.tensors()["reservoir.label"][5:].tolist() == [0] * 5
    assert (reservoir.expire(3), reservoir.expire(2)) == (0, 0)
    assert (reservoir.expire(100), len(reservoir)) == (5, 0)
    assert not any(bool(rows.any()) for name, rows in reservoir.tensors().items() if "counts" not in name)


@settings(max_examples=50, deadline=None)
@given(
    capacity=st.integers(1, 20),
    steps=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 150)), max_size=8),
    seed=st.integers(0, 9),
)
def test_after_an_expiry_no_older_sample_is_stored_and_sampling_continues(
    capacity: int, steps: list[tuple[int, int]], seed: int
) -> None:
    reservoir, other = Reservoir(capacity, COLUMNS), Reservoir(capacity, COLUMNS)
    cut = 0
    for size, before in steps:
        fill(reservoir, [size], seed)
        other.load(reservoir.tensors())
        cut = max(cut, min(before, reservoir.offered))
        assert reservoir.expire(before) == other.expire(before)
        labels = kept(reservoir)
        assert all(cut <= label < reservoir.offered for label in labels)
        assert len(set(labels)) == len(labels) <= min(capacity, reservoir.offered - cut)
    assert all(torch.equal(rows, other.tensors()[name]) for name, rows in reservoir.tensors().items())


def test_every_sample_that_has_not_expired_is_equally_likely_to_be_stored() -> None:
    """χ² as below, over the 150 samples that came after the first 50, of 200; 20 places."""
    trials, capacity, count = 800, 20, 150
    counts = torch.zeros(count)
    for seed in range(trials):
        reservoir = Reservoir(capacity, COLUMNS)
        fill(reservoir, [30, 50], seed)
        reservoir.expire(20)
        fill(reservoir, [40], seed + trials)
        reservoir.expire(50)
        fill(reservoir, [80], seed + 2 * trials)
        counts[[label - 50 for label in kept(reservoir)]] += 1
    expected = counts.sum() / count
    statistic = float(((counts - expected) ** 2 / expected).sum()) / (1 - capacity / count)
    assert counts.sum() > 0.95 * trials * capacity  # places do not stay empty
    assert 104 < statistic < 202  # 0.2 % and 99.8 % of χ² with 149 degrees of freedom


def test_until_it_is_full_every_sample_is_stored() -> None:
    reservoir = Reservoir(10, COLUMNS)
    fill(reservoir, [3, 4, 3])
    assert kept(reservoir) == list(range(10))


def test_the_columns_of_a_sample_stay_together() -> None:
    reservoir = Reservoir(10, COLUMNS)
    fill(reservoir, [7, 64, 64, 100])
    drawn = reservoir.draw(100, torch.Generator().manual_seed(1))
    assert torch.equal(drawn["pixels"], (drawn["label"] % 256).to(torch.uint8).repeat(2, 1).T)


def test_every_sample_is_equally_likely_to_be_stored() -> None:
    """χ² of how often each of 200 samples is kept in 800 reservoirs of 20; seeded, so it is not flaky.

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


def test_every_stored_sample_is_equally_likely_to_be_drawn() -> None:
    reservoir = Reservoir(50, COLUMNS)
    fill(reservoir, [50])
    counts = torch.bincount(reservoir.draw(50_000, torch.Generator().manual_seed(0))["label"], minlength=50)
    statistic = float(((counts - 1000) ** 2 / 1000).sum())
    assert 26 < statistic < 81  # 0.2 % and 99.8 % of χ² with 49 degrees of freedom


def test_the_offered_tensors_may_be_overwritten() -> None:
    reservoir = Reservoir(4, COLUMNS)
    samples = {"pixels": torch.full((4, 2), 7, dtype=torch.uint8), "label": torch.arange(4)}
    reservoir.offer(samples, torch.Generator())
    samples["pixels"].zero_()
    samples["label"].zero_()
    assert kept(reservoir) == [0, 1, 2, 3]
    assert bool((reservoir.tensors()["reservoir.pixels"] == 7).all())


def test_a_capacity_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity is 0"):
        Reservoir(0, COLUMNS)
