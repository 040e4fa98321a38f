"""Solving: the same as torch's own, and the same bits with any number of threads."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from lethe.learners.analytic.gram import Gram
from lethe.learners.analytic.solution import cholesky, cholesky_solve, ridge_solution

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def sums(features: int, samples: int) -> Tensor:
    """Return a sum of products of whole numbers, as those of features are."""
    q_BD = torch.randint(-127, 128, (samples, features), generator=torch.Generator().manual_seed(0)).double()
    return q_BD.T @ q_BD


@pytest.mark.parametrize("features", [1, 511, 512, 513, 1300])
def test_a_factor_is_that_of_torch(features: int) -> None:
    A_DD = sums(features, 2 * features)
    A_DD.diagonal().add_(100)
    expected_DD = torch.linalg.cholesky(A_DD, upper=True)
    below = torch.ones(features, features).tril(-1).bool()
    U_DD = cholesky(A_DD.masked_fill(below, torch.nan))
    assert U_DD is not None
    torch.testing.assert_close(U_DD.triu(), expected_DD, rtol=1e-9, atol=1e-9)
    B_DK = torch.randn(features, 3, dtype=torch.float64)
    torch.testing.assert_close(A_DD @ cholesky_solve(B_DK, U_DD), B_DK, rtol=1e-6, atol=1e-6)


def test_the_number_of_threads_changes_no_bit() -> None:
    A_DD, B_DK = sums(1300, 2000), torch.randn(1300, 600, dtype=torch.float64)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        U_DD = cholesky(A_DD)
        assert U_DD is not None
        found.append((U_DD.triu(), cholesky_solve(B_DK, U_DD)))
    for factor_DD, X_DK in found[1:]:
        assert torch.equal(factor_DD, found[0][0])
        assert torch.equal(X_DK, found[0][1])


@pytest.mark.parametrize("row", [0, 700])
def test_a_matrix_that_is_not_positive_definite_has_no_factor(row: int) -> None:
    A_DD = sums(900, 2000)
    A_DD[row, row] = -1
    assert cholesky(A_DD) is None


def test_the_ridge_solution_is_that_of_the_normal_equations() -> None:
    gram = Gram(700, CPU)
    phi = torch.randint(-127, 128, (40, 700), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    gram.add(phi)
    B_DK = torch.randn(700, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    penalty_D = torch.linspace(100, 3000, 700, dtype=torch.float64)
    A_DD = phi.double().T @ phi.double() + penalty_D.diag()
    expected = torch.linalg.solve(A_DD, B_DK).float()
    torch.testing.assert_close(ridge_solution(gram.upper(), B_DK, penalty_D), expected)


def test_a_penalty_below_the_rounding_of_the_solution_is_raised() -> None:
    one = torch.ones(2, 2, dtype=torch.float64)
    W_DK = ridge_solution(one, torch.ones(2, 1, dtype=torch.float64), torch.full((2,), 1e-30).double())
    torch.testing.assert_close(W_DK.sum(), torch.tensor(1.0), atol=1e-3, rtol=0)
