"""Products of numbers rounded to bfloat16."""

import torch

from service.learners.products import beside_learning, rounded, unit


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
    with unit():
        product = left @ right
    torch.testing.assert_close(product.double(), exact, atol=2e-4, rtol=1e-5)


def test_a_product_is_added_in_place_to_a_sum_that_keeps_its_float32() -> None:
    left, right, total = rounded(matrix(300, 64)), rounded(matrix(64, 200)), matrix(300, 200)
    exact = total.double() + left.double() @ right.double()
    with unit():
        total.addmm_(left, right)
    torch.testing.assert_close(total.double(), exact, atol=2e-4, rtol=1e-5)


def test_other_products_of_the_process_are_as_exact_as_before() -> None:
    left, right = matrix(300, 400), matrix(400, 200)
    before = left @ right
    with unit():
        pass
    assert torch.equal(left @ right, before)


def test_a_thread_beside_the_one_that_learns_leaves_the_switch_as_it_is() -> None:
    switch = torch.get_float32_matmul_precision()
    with beside_learning(), unit():
        assert torch.get_float32_matmul_precision() == switch
