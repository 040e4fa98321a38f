"""The formulas, against matrices worked out by hand and against what must hold for any numbers."""

import doctest
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lethe.evaluation import prequential
from lethe.evaluation import score_formulas as f
from lethe.evaluation.prequential import Prequential

ARTICLE = [[0.10, 0.10], [0.992, 0.10], [0.339, 0.911]]
RECURRING = [[0.1, 0.1], [0.98, 0.2], [0.30, 0.90], [0.96, 0.40], [0.50, 0.92]]  # M, F, M, F

ratios = st.floats(0, 1)
curves = st.lists(st.lists(ratios, min_size=1, max_size=30), min_size=1, max_size=4)


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[list[float]], list[int | None]]:
    """A matrix and its visits: segments may recur or have no probe, probes may stay unseen."""
    probes = draw(st.integers(1, 5))
    visits = draw(st.lists(st.none() | st.integers(0, probes - 1), max_size=7))
    row = st.lists(ratios, min_size=probes, max_size=probes)
    return draw(st.lists(row, min_size=len(visits) + 1, max_size=len(visits) + 1)), visits


def test_the_examples_in_the_docstrings_hold() -> None:
    for module in (f, prequential):
        result = doctest.testmod(module)
        assert result.attempted > 0
        assert result.failed == 0


def test_the_article_forgets_65_points_of_mnist() -> None:
    assert f.average_accuracy(ARTICLE, [0, 1]) == pytest.approx(0.625)
    assert f.backward_transfer(ARTICLE, [0, 1]) == pytest.approx(-0.653)
    assert f.forgetting(ARTICLE, [0, 1]) == pytest.approx(0.653)
    assert f.forgetting_by_probe(ARTICLE, [0, 1]) == pytest.approx({0: 0.653})
    assert f.forward_transfer(ARTICLE, [0, 1]) == pytest.approx(0.0)


def test_three_segments_worked_out_by_hand() -> None:
    R = [[0.1, 0.2, 0.3], [0.9, 0.3, 0.2], [0.95, 0.8, 0.5], [0.7, 0.6, 0.85]]
    visits = [0, 1, 2]
    assert f.average_accuracy(R, visits) == pytest.approx((0.7 + 0.6 + 0.85) / 3)
    assert f.backward_transfer(R, visits) == pytest.approx(((0.7 - 0.9) + (0.6 - 0.8)) / 2)
    assert f.forward_transfer(R, visits) == pytest.approx(((0.3 - 0.2) + (0.5 - 0.3)) / 2)
    assert f.forgetting_by_probe(R, visits) == pytest.approx({0: 0.95 - 0.7, 1: 0.8 - 0.6})
    assert f.forgetting(R, visits) == pytest.approx((0.25 + 0.2) / 2)


def test_a_recurring_segment_counts_from_its_first_visit_for_bwt_and_from_its_best_for_forgetting() -> None:
    visits = [0, 1, 0, 1]
    assert f.backward_transfer(RECURRING, visits) == pytest.approx(((0.50 - 0.98) + (0.92 - 0.90)) / 2)
    assert f.forgetting_by_probe(RECURRING, visits) == pytest.approx({0: 0.48, 1: 0.90 - 0.92})
    assert f.average_accuracy(RECURRING, visits) == pytest.approx((0.50 + 0.92) / 2)
    assert f.forward_transfer(RECURRING, visits) == pytest.approx(0.2 - 0.1)


def test_relearning_a_recurring_segment_undoes_its_forgetting() -> None:
    during = f.forgetting_by_probe(RECURRING[:3], [0, 1])
    after = f.forgetting_by_probe(RECURRING[:4], [0, 1, 0])
    assert during == pytest.approx({0: 0.68})
    assert after == pytest.approx({0: 0.02, 1: 0.50})


def test_probes_whose_segment_has_not_been_seen_do_not_count() -> None:
    R = [[0.1, 0.9, 0.1], [0.8, 0.9, 0.2], [0.6, 0.9, 0.7]]
    assert f.average_accuracy(R, [0, 2]) == pytest.approx((0.6 + 0.7) / 2)
    assert f.backward_transfer(R, [0, 2]) == pytest.approx(-0.2)
    assert f.forgetting_by_probe(R, [0, 2]) == pytest.approx({0: 0.2})


def test_a_segment_without_a_probe_makes_all_seen_probes_old() -> None:
    R = [[0.1, 0.1], [0.9, 0.1], [0.5, 0.8], [0.4, 0.6]]
    assert f.backward_transfer(R, [0, 1, None]) == pytest.approx(((0.4 - 0.9) + (0.6 - 0.8)) / 2)


def test_the_untrained_row_is_never_the_best() -> None:
    assert f.forgetting_by_probe([[1.0, 0.1], [0.8, 0.1], [0.7, 0.9]], [0, 1]) == pytest.approx({0: 0.1})


def test_nothing_is_defined_before_the_first_segment_and_no_transfer_before_the_second() -> None:
    assert f.average_accuracy([[0.1, 0.1]], []) is None
    one = ([[0.1, 0.1], [0.9, 0.1]], [0])
    assert f.average_accuracy(*one) == 0.9
    assert f.backward_transfer(*one) is None
    assert f.forward_transfer(*one) is None
    assert f.forgetting(*one) is None
    assert f.forgetting_by_probe(*one) == {}
    assert f.min_acc([]) is None
    assert f.anytime_accuracy([[], []]) is None


def test_a_matrix_without_the_untrained_row_is_refused() -> None:
    for formula in (f.average_accuracy, f.backward_transfer, f.forward_transfer, f.forgetting):
        with pytest.raises(ValueError, match="2 rows for 2 segments"):
            formula(ARTICLE[1:], [0, 1])


def test_worst_case_accuracy_weighs_the_current_probe_as_one_of_k() -> None:
    assert f.wc_acc(0.9, None, 1) == 0.9
    assert f.wc_acc(0.9, 0.3, 3) == pytest.approx(0.9 / 3 + 2 / 3 * 0.3)
    assert f.wc_acc(0.9, None, 2) is None
    assert f.wc_acc(None, 0.3, 2) is None
    assert f.wc_acc(0.9, None, 0) is None


@given(streams())
def test_scores_stay_in_their_ranges(stream: tuple[list[list[float]], list[int | None]]) -> None:
    acc = f.average_accuracy(*stream)
    assert acc is None or 0 <= acc <= 1
    for score in (f.backward_transfer(*stream), f.forward_transfer(*stream), f.forgetting(*stream)):
        assert score is None or -1 <= score <= 1


@given(streams())
def test_forgetting_is_at_least_minus_bwt(stream: tuple[list[list[float]], list[int | None]]) -> None:
    bwt, mean = f.backward_transfer(*stream), f.forgetting(*stream)
    assert (bwt is None) == (mean is None)
    if bwt is not None and mean is not None:
        assert mean >= -bwt - 1e-12


@given(streams(), st.data())
def test_renaming_the_probes_changes_no_score(
    stream: tuple[list[list[float]], list[int | None]], data: st.DataObject
) -> None:
    R, visits = stream
    order = data.draw(st.permutations(range(len(R[0]))))
    renamed_R = [[row[j] for j in order] for row in R]
    renamed_visits = [None if j is None else order.index(j) for j in visits]
    for formula in (f.average_accuracy, f.backward_transfer, f.forward_transfer, f.forgetting):
        assert formula(R, visits) == formula(renamed_R, renamed_visits)


@given(st.lists(ratios, min_size=2, max_size=6))
def test_perfect_retention_has_no_transfer_back_and_no_forgetting(skills: list[float]) -> None:
    segments = range(len(skills))
    R = [[0.0] * len(skills)] + [[skills[j] if j <= i else 0.0 for j in segments] for i in segments]
    visits = list(segments)
    assert f.backward_transfer(R, visits) == 0
    assert f.forgetting(R, visits) == 0
    assert f.forward_transfer(R, visits) == 0
    assert f.average_accuracy(R, visits) == pytest.approx(fmean(skills))


@given(st.lists(ratios, min_size=1, max_size=30))
def test_below_best_is_chaudhrys_forgetting_if_each_evaluation_ends_a_segment(
    curve: list[float],
) -> None:
    below = f.below_best(curve)
    assert 0 <= below <= 1
    R = [[0.0], *([accuracy] for accuracy in curve)]
    by_probe = f.forgetting_by_probe(R, [0] * len(curve))
    assert below == max(0.0, by_probe.get(0, 0.0)), "the same, but never ahead of the best"
    assert f.below_best([*curve, max(curve)]) == 0, "won back, nothing is lost"


@given(curves, curves)
def test_min_acc_falls_with_every_further_evaluation(
    before: list[list[float]], later: list[list[float]]
) -> None:
    finer = [curve + more for curve, more in zip(before, later, strict=False)]
    coarse, fine = f.min_acc(before[: len(finer)]), f.min_acc(finer)
    assert coarse is not None
    assert fine is not None
    assert fine <= coarse


def test_prequential_accuracy_is_undefined_before_the_first_sample() -> None:
    assert Prequential().cumulative is None
    assert Prequential().fading is None


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_the_fading_accuracy_of_single_samples_is_the_papers_recursion(hits: list[bool]) -> None:
    accuracy, s, n = Prequential(), 0.0, 0.0
    for hit in hits:
        accuracy.add(1, int(hit))
        s, n = hit + 0.999 * s, 1 + 0.999 * n
    assert accuracy.fading == pytest.approx(s / n)
    assert accuracy.cumulative == sum(hits) / len(hits)


@given(st.integers(1, 500), st.integers(1, 500))
def test_the_fading_accuracy_does_not_depend_on_how_equal_samples_are_batched(a: int, b: int) -> None:
    whole, parts = Prequential(), Prequential()
    whole.add(1000, 0)
    parts.add(1000, 0)
    whole.add(a + b, a + b)
    parts.add(a, a)
    parts.add(b, b)
    assert whole.fading == pytest.approx(parts.fading)


def test_the_recent_past_outweighs_the_start() -> None:
    accuracy = Prequential()
    accuracy.add(10_000, 10_000)
    accuracy.add(2_000, 0)
    assert accuracy.cumulative == pytest.approx(10 / 12)
    assert accuracy.fading is not None
    assert accuracy.fading == pytest.approx(0.999**2000, rel=1e-3)


@pytest.mark.parametrize(("samples", "correct"), [(0, 0), (3, 4), (3, -1)])
def test_impossible_counts_are_refused(samples: int, correct: int) -> None:
    with pytest.raises(ValueError, match=f"{correct} correct of {samples}"):
        Prequential().add(samples, correct)
