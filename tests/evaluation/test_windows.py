"""Windowed forgetting and plasticity, held against the paper's formula over the whole past."""

import doctest
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lethe.evaluation import windows
from lethe.evaluation.history import History
from lethe.evaluation.windows import Window
from lethe.events import Evaluated, Reading, ScoresUpdated

curves = st.lists(st.floats(0, 1), min_size=1, max_size=40)
widths = st.integers(2, 12)


def through(curve: list[float], w: int) -> Window:
    window = Window(w)
    for accuracy in curve:
        window.add(accuracy)
    return window


def naive(curve: list[float], w: int) -> tuple[float, float]:
    """De Lange et al.'s definitions, word by word: over all pairs m < n that a window of w holds."""
    pairs = [(curve[m], curve[n]) for m, n in combinations(range(len(curve)), 2) if n - m < w]
    return max([0.0, *(a - b for a, b in pairs)]), max([0.0, *(b - a for a, b in pairs)])


def test_the_example_in_the_docstring_holds() -> None:
    assert doctest.testmod(windows).failed == 0


@given(curves, widths)
def test_running_values_equal_the_formula_over_everything(curve: list[float], w: int) -> None:
    window = through(curve, w)
    assert (window.drop, window.rise) == naive(curve, w)
    assert len(window.recent) == min(len(curve), w - 1), "memory is bounded by the window"


def test_windows_see_only_changes_that_fit_into_them() -> None:
    slow = [0.9, 0.8, 0.7, 0.6, 0.5]
    assert through(slow, 2).drop == pytest.approx(0.1)
    assert through(slow, 4).drop == pytest.approx(0.3)
    assert through(slow, 10).drop == pytest.approx(0.4)
    assert through(slow, 5).rise == 0.0


def test_a_dip_that_recovers_stays_on_record() -> None:
    window = through([0.9, 0.5] + [0.9] * 50, 10)
    assert window.drop == pytest.approx(0.4)
    assert window.rise == pytest.approx(0.4)


@given(curves, widths)
def test_a_wider_window_never_sees_a_smaller_change(curve: list[float], w: int) -> None:
    narrow, wide = through(curve, w), through(curve, w + 1)
    assert 0 <= narrow.drop <= wide.drop <= 1
    assert 0 <= narrow.rise <= wide.rise <= 1


def test_a_window_too_small_for_a_change_is_refused() -> None:
    with pytest.raises(ValueError, match="w = 1"):
        Window(1)


def measured(
    history: History, whole: float, subset: float, *, full: bool, ends: bool = False
) -> ScoresUpdated:
    """Evaluate on a probe named a, whose subset is seen with another accuracy than the whole."""
    visit = len(history.segments)
    reading = {"a": Reading(whole, subset, (whole,), 0.25)}
    return history.evaluated(Evaluated(history.samples, reading, full, visit, None, ends, 0.1))


def test_windows_compare_the_same_images_whether_an_evaluation_is_full_or_not() -> None:
    history = History(["a"])
    measured(history, 0.10, 0.12, full=True)
    history.segment_started("a")
    history.learned(64, 64)
    measured(history, 0.80, 0.80, full=False)
    scores = measured(history, 0.90, 0.80, full=True, ends=True).scores
    assert scores.windowed_plasticity == pytest.approx(0.68)
    history.segment_started("b")
    scores = measured(history, 0.79, 0.79, full=False).scores
    assert scores.windowed_forgetting == pytest.approx(0.01), "not the 0.11 from the whole to the subset"


def test_the_score_is_the_mean_over_the_probes_seen_and_survives_a_checkpoint() -> None:
    history = History(["a", "b"], w=2)

    def at(a: float, b: float, *, ends: bool = False) -> ScoresUpdated:
        visit = len(history.segments)
        reading = {"a": Reading(a, a, (a,), 0.5), "b": Reading(b, b, (b,), 0.25)}
        full = ends or not history.samples
        return history.evaluated(Evaluated(history.samples, reading, full, visit, None, ends, 0.1))

    assert at(0.0, 0.5).scores.windowed_plasticity is None
    history.segment_started("a")
    history.learned(64, 64)
    first = at(0.75, 0.25, ends=True).scores
    assert (first.windowed_plasticity, first.windowed_forgetting, first.ece) == (0.75, 0.0, 0.5)
    history = History.from_json(history.to_json())
    history.segment_started("b")
    history.learned(64, 64)
    second = at(0.25, 0.25, ends=True).scores
    assert (second.windowed_plasticity, second.windowed_forgetting, second.ece) == (0.375, 0.25, 0.375)


def test_a_drop_before_a_subject_was_learned_does_not_count() -> None:
    window = through([0.2, 0.04], 10)
    window.begin()
    for accuracy in (0.9, 0.8):
        window.add(accuracy)
    assert window.drop == pytest.approx(0.1)
    assert window.rise == pytest.approx(0.86)


@given(curves, curves, widths)
def test_the_drop_restarts_at_the_begin_while_a_rise_may_reach_across(
    before: list[float], after: list[float], w: int
) -> None:
    window = through(before, w)
    window.begin()
    for accuracy in after:
        window.add(accuracy)
    assert window.drop == naive([before[-1], *after], w)[0]
    assert window.rise == naive([*before, *after], w)[1]
    assert len(window.recent) == min(len(before) + len(after), w - 1)


def test_a_window_of_an_older_versions_checkpoint_continues() -> None:
    window = Window(w=10, recent=[0.05], drop=0.0, rise=0.25)
    window.add(0.9)
    assert window.rise == pytest.approx(0.85)
    assert window.untaught == 0


def test_a_stream_that_names_no_segments_has_windows_of_every_probe() -> None:
    history = History(["a"])
    assert measured(history, 0.1, 0.1, full=True).scores.windowed_plasticity is None
    history.learned(64, 64)
    scores = measured(history, 0.6, 0.6, full=False).scores
    assert scores.windowed_plasticity == pytest.approx(0.5)
    assert scores.windowed_forgetting == 0.0
    assert scores.ece == 0.25
