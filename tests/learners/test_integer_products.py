"""Products of int8 matrices: the same whole numbers by every unit."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lethe.learners import integer_products
from lethe.learners.integer_products import UNITS, product


def matrix(rows: int, columns: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-128, 128, (rows, columns), generator=generator).to(torch.int8)


@pytest.mark.parametrize("unit", UNITS)
@settings(deadline=None, max_examples=30)
@given(rows=st.integers(1, 2100), left=st.integers(1, 70), right=st.integers(1, 70), seed=st.integers(0, 99))
def test_every_unit_gives_the_exact_product(unit: str, rows: int, left: int, right: int, seed: int) -> None:
    left_BM, right_BN = matrix(rows, left, seed), matrix(rows, right, seed + 1)
    exact = left_BM.to(torch.int64).T @ right_BN.to(torch.int64)
    assert torch.equal(UNITS[unit](left_BM, right_BN).to(torch.int64), exact)


@pytest.mark.parametrize("unit", UNITS)
def test_no_unit_rounds_the_largest_sums(unit: str) -> None:
    ones = torch.full((130_000, 2), 127, dtype=torch.int8)
    assert UNITS[unit](ones, ones).tolist() == [[130_000 * 127**2] * 2] * 2


def test_views_of_a_larger_matrix_are_taken() -> None:
    whole = matrix(64, 300, 0)
    left, right = whole[:, 10:50], whole[:, 90:220]
    exact = left.to(torch.int64).T @ right.to(torch.int64)
    assert torch.equal(product(left, right).to(torch.int64), exact)


def test_a_unit_that_saturates_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def saturated(left_BM: torch.Tensor, right_BN: torch.Tensor) -> torch.Tensor:
        return UNITS["float32"](left_BM, right_BN).clamp(-(1 << 20), 1 << 20)

    monkeypatch.setattr(integer_products, "UNITS", {"saturated": saturated, "float32": UNITS["float32"]})
    assert integer_products.fastest_unit.__wrapped__(torch.device("cpu")) == "float32"


def test_a_slow_unit_is_tried_on_small_matrices_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now, rows = 0.0, []

    def slow(left_BM: torch.Tensor, right_BN: torch.Tensor) -> torch.Tensor:
        nonlocal now
        now += 1
        rows.append(len(left_BM))
        return UNITS["float32"](left_BM, right_BN)

    def fast(left_BM: torch.Tensor, right_BN: torch.Tensor) -> torch.Tensor:
        nonlocal now
        now += 0.1
        return UNITS["float32"](left_BM, right_BN)

    monkeypatch.setattr(integer_products, "UNITS", {"slow": slow, "fast": fast})
    monkeypatch.setattr(integer_products, "time", SimpleNamespace(perf_counter=lambda: now))
    assert integer_products.fastest_unit.__wrapped__(torch.device("cpu")) == "fast"
    assert set(rows) == {128}
