"""The Hadamard transform."""

import pytest
import torch

from lethe.learners.features.hadamard import hadamard_matrix, hadamard_transform


@pytest.mark.parametrize("n", [1, 2, 64])
def test_the_matrix_is_orthogonal_and_of_ones(n: int) -> None:
    matrix_nn = hadamard_matrix(n)
    assert bool((matrix_nn.abs() == 1).all())
    torch.testing.assert_close(matrix_nn @ matrix_nn.T, n * torch.eye(n))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("n", "rows"), [(1, 1), (2, 1), (64, 64), (64, 33), (64, 32), (64, 20), (64, 1)])
def test_the_steps_give_the_first_rows_of_the_product_with_the_matrix(n: int, rows: int, batch: int) -> None:
    x_nB = torch.randint(-9, 10, (n, batch), generator=torch.Generator().manual_seed(0)).float()
    expected = hadamard_matrix(n)[:rows] @ x_nB
    assert torch.equal(hadamard_transform(x_nB, rows), expected)  # of small integers, all sums are exact
