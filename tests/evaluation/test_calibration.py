"""The expected calibration error, held against Guo et al.'s definition with a loop over the bins."""

import doctest
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lethe.evaluation import calibration, thinned
from lethe.evaluation.calibration import BINS, Calibration

confidences = st.one_of(
    st.floats(0, 1, width=32), st.integers(0, BINS).map(lambda m: float(torch.tensor(m / BINS)))
)
predictions = st.lists(st.tuples(confidences, st.booleans()), min_size=1, max_size=60)


def tensors(predicted: list[tuple[float, bool]]) -> tuple[Tensor, Tensor]:
    """Probabilities of two classes, the first the likeliest, and which were right."""
    sure = torch.tensor([confidence for confidence, _ in predicted])
    return torch.stack([sure, torch.zeros_like(sure)], 1), torch.tensor([right for _, right in predicted])


def naive(predicted: list[tuple[float, bool]]) -> float:
    """Σ_m |B_m|/n |acc(B_m) − conf(B_m)| over B_m = ((m − 1)/M, m/M]; a confidence of 0 is in the first."""
    total = 0.0
    for m in range(1, BINS + 1):
        low, high = Fraction(m - 1, BINS), Fraction(m, BINS)
        inside = [(c, r) for c, r in predicted if low < Fraction(c) <= high or (m == 1 and c == 0)]
        if inside:
            accuracy = sum(right for _, right in inside) / len(inside)
            confidence = math.fsum(c for c, _ in inside) / len(inside)
            total += len(inside) / len(predicted) * abs(accuracy - confidence)
    return total


def test_the_examples_in_the_docstrings_hold() -> None:
    for module in (calibration, thinned):
        result = doctest.testmod(module)
        assert (result.attempted > 0, result.failed) == (True, 0)


@given(predictions, st.integers(1, 20))
def test_it_is_the_papers_formula_for_any_batching_of_the_images(
    predicted: list[tuple[float, bool]], size: int
) -> None:
    measured = Calibration()
    for start in range(0, len(predicted), size):
        measured.add(*tensors(predicted[start : start + size]))
    assert measured.error == pytest.approx(naive(predicted), abs=1e-12)
    assert 0 <= measured.error <= 1


def test_calibrated_predictions_have_no_error_and_certain_wrong_ones_the_maximum() -> None:
    honest, boastful = Calibration(), Calibration()
    honest.add(*tensors([(0.75, True)] * 3 + [(0.75, False)]))
    boastful.add(*tensors([(1.0, False)] * 4))
    assert honest.error == 0
    assert boastful.error == 1


def test_the_confidence_is_that_of_the_likeliest_class() -> None:
    measured = Calibration()
    measured.add(torch.tensor([[0.125, 0.625, 0.25]]), torch.tensor([True]))
    assert measured.error == 0.375


def test_invalid_probabilities_are_ignored_and_the_error_stays_finite() -> None:
    measured = Calibration()
    measured.add(torch.tensor([[math.nan, math.nan], [40.0, 2.0]]), torch.tensor([False, True]))
    assert measured.error == 0


def test_without_predictions_there_is_no_error() -> None:
    with pytest.raises(ValueError, match="nothing was predicted"):
        _ = Calibration().error
