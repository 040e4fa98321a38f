"""Products of numbers rounded to bfloat16."""

import pytest
import torch

from service.learners.products import Multiplier, add_product, beside_learning, product, rounded


def matrix(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_rounding_keeps_eight_bits_and_is_done_once() -> None:
    x = matrix(500)
    once = rounded(x)
    assert once.dtype == torch.float32
    assert ((once - x).abs() <= x.abs() / 256).all()
    assert torch.equal(rounded(once), once)
    assert torch.equal(rounded(torch.arange(257.0)), torch.arange(257.0))


def test_the_product_of_rounded_matrices_is_exact_but_for_the_order_of_a_float32_sum() -> None:
    left, right = rounded(matrix(300, 400)), rounded(matrix(400, 200))
    exact = left.double() @ right.double()
    torch.testing.assert_close(product(left, right).double(), exact, atol=2e-4, rtol=1e-5)


def test_a_product_is_added_in_place_to_a_sum_that_keeps_its_float32() -> None:
    left, right, before = rounded(matrix(300, 64)), rounded(matrix(64, 200)), matrix(300, 200)
    total = before.clone()
    add_product(total, left, right)
    exact = before.double() + left.double() @ right.double()
    torch.testing.assert_close(total.double(), exact, atol=2e-4, rtol=1e-5)


def test_other_products_of_the_process_are_as_exact_as_before() -> None:
    left, right = matrix(300, 400), matrix(400, 200)
    before = left @ right
    product(rounded(left), rounded(right))
    assert torch.equal(left @ right, before)


@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("largest", [1e-6, 0.05, 3e4])
def test_a_matrix_that_is_kept_gives_the_same_products_beside_a_thread_that_learns(
    rows: int, largest: float
) -> None:
    left, right = rounded(matrix(rows, 400)), rounded(matrix(400, 200))
    right = rounded(right * (largest / right.abs().max()))
    multiply = Multiplier(right)
    exact = left.double() @ right.double()
    scale = exact.abs().max()

    def check() -> None:
        torch.testing.assert_close(multiply(left).double() / scale, exact / scale, atol=1e-5, rtol=1e-5)

    check()
    with beside_learning():
        for precision in ("highest", "medium"):  # the switch, off and on
            before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision(precision)
            try:
                check()
            finally:
                torch.set_float32_matmul_precision(before)


def test_a_matrix_that_is_kept_is_exact_in_the_copy_that_few_rows_are_multiplied_by() -> None:
    positive = torch.arange(2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).float()
    kept = positive[(positive <= 1) & (positive > 2**-29)]
    with beside_learning():
        assert torch.equal(Multiplier(kept[None, :])(torch.ones(1, 1))[0], kept)


def test_a_matrix_without_columns_gives_products_without_any() -> None:
    with beside_learning():
        assert Multiplier(matrix(4, 0))(matrix(1, 4)).shape == (1, 0)
