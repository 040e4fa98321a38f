"""Evaluations become R and scores; what is remembered survives a crash and stays small."""

import json
from collections.abc import Callable
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lethe.errors import InvalidFile
from lethe.evaluation import score_formulas
from lethe.evaluation.history import History
from lethe.evaluation.history_state import CLASS_POINTS, CURVE_POINTS
from lethe.events import SCORES, Evaluated, Reading, ScoresUpdated
from tests.support.readings import readings

if TYPE_CHECKING:
    from lethe.learners.state import JSON

PROBES = ("mnist", "fashion-mnist")

Step = Callable[[History], ScoresUpdated | None]


def evaluated(samples: int, accuracy: dict[str, float], visit: int, *, ends: bool = False) -> Evaluated:
    return Evaluated(samples, readings(accuracy), ends or visit == 0, visit, None, ends, 0.1)


def at(history: History, mnist: float, fashion: float, *, ends: bool = False) -> ScoresUpdated:
    accuracy = {"mnist": mnist, "fashion-mnist": fashion}
    return history.evaluated(evaluated(history.samples, accuracy, len(history.segments), ends=ends))


def the_article() -> tuple[History, ScoresUpdated]:
    history = History(PROBES)
    at(history, 0.10, 0.10)
    history.segment_started("mnist")
    history.learned(1000, 800)
    at(history, 0.97, 0.11)
    history.learned(1000, 950)
    at(history, 0.992, 0.10, ends=True)
    history.segment_started("fashion-mnist")
    history.learned(1000, 500)
    at(history, 0.20, 0.80)
    history.learned(1000, 850)
    return history, at(history, 0.339, 0.911, ends=True)


def test_withheld_scores_of_the_stream_are_not_in_checkpoints() -> None:
    history, measured = the_article()
    assert measured.scores.prequential_accuracy == pytest.approx(0.775)
    assert "0.775" in json.dumps(history.to_json())
    history.withhold_prequential()
    memory = cast("dict[str, JSON]", json.loads(json.dumps(history.to_json())))
    blank = {"samples": 4000, "withheld": 4000, "correct": 0, "faded_samples": 0.0, "faded_correct": 0.0}
    assert memory["prequential"] == blank
    assert "0.775" not in json.dumps(memory)
    assert all(point.prequential_fading is None for point in history.points)
    history.learned(5, None)
    again = History.from_json(history.to_json())
    assert again.samples == 4005
    assert again.prequential.cumulative is again.prequential.fading is None
    again.learned(10, 4)  # under another policy
    assert again.prequential.cumulative == 0.4


def test_names_that_no_probe_has_can_be_withheld_and_nothing_else_changes() -> None:
    history, same = History(["a"]), History(["a"])
    for name, withheld in [("a", "a"), ("Maria Muster", "(name withheld)"), ("a", "a")]:
        history.segment_started(name)
        same.segment_started(withheld)
    history.withhold_names()
    assert "Maria" not in json.dumps(history.to_json())
    assert history.to_json() == same.to_json()
    assert History.from_json(history.to_json()).segments == ["a", "(name withheld)", "a"]


def test_the_articles_stream_gives_its_matrix_and_scores() -> None:
    history, measured = the_article()
    assert measured.R == ((0.10, 0.10), (0.992, 0.10), (0.339, 0.911))
    assert measured.segments == ("mnist", "fashion-mnist")
    assert measured.probes == PROBES
    assert measured.samples == 4000
    scores = measured.scores
    assert scores.acc == pytest.approx(0.625)
    assert scores.bwt == pytest.approx(-0.653)
    assert scores.fwt == pytest.approx(0.0)
    assert scores.forgetting == pytest.approx(0.653)
    assert measured.forgetting_by_probe == pytest.approx({"mnist": 0.653})
    assert scores.min_acc == pytest.approx(0.20)
    assert scores.wc_acc == pytest.approx(0.911 / 2 + 0.20 / 2)
    assert scores.anytime_accuracy == pytest.approx(fmean([0.97, 0.992, 0.5, 0.625]))
    assert scores.prequential_accuracy == pytest.approx(0.775)
    assert history.prequential.fading is not None
    assert history.prequential.fading > 0.75


def test_before_the_first_segment_no_score_is_defined() -> None:
    first = at(History(PROBES), 0.1, 0.1)
    assert first.forgetting_by_probe == {}
    scores = first.scores
    assert scores.acc is scores.bwt is scores.fwt is scores.forgetting is scores.min_acc is None
    assert scores.wc_acc is scores.anytime_accuracy is scores.prequential_accuracy is None


def test_the_first_evaluation_after_a_segments_end_starts_its_minimum() -> None:
    history = History(PROBES)
    at(history, 0.1, 0.1)
    history.segment_started("mnist")
    at(history, 0.2, 0.1)  # below all that follows, but before the segment ended
    assert at(history, 0.9, 0.1, ends=True).scores.min_acc is None
    history.segment_started("fashion-mnist")
    assert at(history, 0.8, 0.3).scores.min_acc == 0.8
    assert at(history, 0.5, 0.6).scores.min_acc == 0.5
    assert at(history, 0.7, 0.7).scores.min_acc == 0.5


def test_a_minimum_rests_while_its_segment_is_learned_again_and_stays_afterwards() -> None:
    history, _ = the_article()
    history.segment_started("mnist")
    at(history, 0.15, 0.60)  # what a skill is while it is taught is no minimum of an old one
    scores = at(history, 0.98, 0.40, ends=True).scores
    assert scores.min_acc == 0.40
    assert scores.wc_acc == pytest.approx(0.98 / 2 + 0.40 / 2)
    history.segment_started("fashion-mnist")
    scores = at(history, 0.97, 0.90).scores
    assert scores.min_acc == 0.20
    assert scores.wc_acc == pytest.approx(0.90 / 2 + 0.20 / 2)


def test_a_segment_without_a_probe_leaves_worst_case_accuracy_undefined() -> None:
    history, _ = the_article()
    history.segment_started("noise")
    scores = at(history, 0.3, 0.8).scores
    assert scores.wc_acc is None
    assert scores.min_acc == pytest.approx((0.20 + 0.8) / 2)
    assert at(history, 0.2, 0.7, ends=True).scores.bwt == pytest.approx(((0.2 - 0.992) + (0.7 - 0.911)) / 2)


def test_a_stream_without_segments_is_measured_without_a_matrix() -> None:
    history = History(PROBES)
    at(history, 0.1, 0.1)
    history.learned(10, 5)
    measured = at(history, 0.5, 0.5)
    assert measured.R == ((0.1, 0.1),)
    assert measured.scores.acc is None
    assert measured.scores.prequential_accuracy == 0.5


def nameless(history: History, whole: float, subset: float) -> ScoresUpdated:
    """Evaluate on mnist, whose subset is seen with another accuracy than the whole; fashion stays."""
    reading = {"mnist": Reading(whole, subset, (), 0.0), "fashion-mnist": Reading(0.5, 0.5, (), 0.0)}
    return history.evaluated(Evaluated(history.samples, reading, False, 0, None, False, 0.1))


def test_without_named_segments_forgetting_is_the_distance_from_a_probes_best() -> None:
    history = History(PROBES)
    assert nameless(history, 1.0, 1.0).forgetting_by_probe == {}, "nothing was learned yet"
    history.learned(10, 5)
    first = nameless(history, 0.7, 0.75)
    assert first.forgetting_by_probe == {"mnist": 0, "fashion-mnist": 0}, "the untrained accuracy is no skill"
    history.learned(10, 5)
    latest = nameless(history, 0.75, 0.25)
    assert latest.forgetting_by_probe == {"mnist": 0.5, "fashion-mnist": 0}, "compared on the subset alone"
    scores = latest.scores
    assert scores.forgetting == 0.25
    assert scores.bwt is scores.fwt is scores.acc is None
    assert nameless(history, 0.9, 0.9).scores.forgetting == 0, "won back"


def test_as_soon_as_a_segment_is_named_the_matrix_counts() -> None:
    history = History(PROBES)
    at(history, 0.1, 0.1)
    history.learned(10, 5)
    nameless(history, 0.9, 0.9)
    nameless(history, 0.4, 0.4)
    history.segment_started("mnist")
    assert at(history, 0.3, 0.5).forgetting_by_probe == {}
    at(history, 0.6, 0.5, ends=True)
    history.segment_started("fashion-mnist")
    assert at(history, 0.5, 0.9).forgetting_by_probe == pytest.approx({"mnist": 0.1})


def test_a_checkpoint_of_a_version_without_scores_in_the_curve_is_read() -> None:
    history, _ = the_article()
    old = json.loads(json.dumps(history.to_json()))
    for point in (*old["landmarks"], *old["curve"]["kept"], old["last"]):
        del point["scores"]
    restored = History.from_json(old)
    assert {len(point.scores) for point in restored.points} == {0}
    assert restored.latest() == history.latest()


def test_a_checkpoint_of_a_version_without_the_best_begins_with_the_next_evaluation() -> None:
    history = History(PROBES)
    at(history, 0.1, 0.1)
    history.learned(10, 5)
    nameless(history, 0.9, 0.9)
    old = cast("dict[str, JSON]", history.to_json())
    del old["best"]
    restored = History.from_json(old)
    latest = restored.latest()
    assert latest is not None
    assert latest.forgetting_by_probe == {}
    assert nameless(restored, 0.4, 0.4).forgetting_by_probe == {"mnist": 0, "fashion-mnist": 0}


def test_the_curve_and_the_switches_are_there_for_the_report() -> None:
    history, _ = the_article()
    assert [(switch.samples, switch.segment) for switch in history.switches] == [
        (0, "mnist"),
        (2000, "fashion-mnist"),
    ]
    assert [point.samples for point in history.points] == [0, 1000, 2000, 3000, 4000]
    assert [point.ends_segment for point in history.points] == [False, False, True, False, True]
    assert history.points[3].accuracy == (0.20, 0.80)
    assert history.points[0].prequential_fading is None
    assert history.points[1].prequential_fading == pytest.approx(0.8)


def test_every_point_of_the_curve_keeps_the_scores_that_were_defined_then() -> None:
    history, last = the_article()
    courses = {name: [point.scores.get(name) for point in history.points] for name in SCORES}
    assert courses["acc"] == pytest.approx([None, 0.97, 0.992, 0.5, 0.625])
    assert courses["bwt"] == pytest.approx([None, None, None, 0.20 - 0.992, 0.339 - 0.992])
    assert courses["min_acc"] == [None, None, None, 0.20, 0.20]
    assert courses["windowed_forgetting"] == pytest.approx([None, 0, 0, 0.792 / 2, 0.792 / 2])
    assert history.points[-1].scores == last.scores.defined()
    assert History.from_json(history.to_json()).points == history.points


@pytest.mark.parametrize(
    ("accuracy", "visit", "ends", "message"),
    [
        ({"mnist": 0.5}, 1, False, "probes mnist, expected mnist, fashion-mnist"),
        ({"fashion-mnist": 0.5, "mnist": 0.5}, 1, False, "probes fashion-mnist, mnist"),
        ({"mnist": 0.5, "fashion-mnist": 0.5}, 2, False, "visit 2 during visit 1"),
        ({"mnist": 0.5, "fashion-mnist": 0.5}, 1, True, "row 1 of R cannot follow 0 rows"),
    ],
)
def test_an_evaluation_that_does_not_fit_is_refused_and_changes_nothing(
    accuracy: dict[str, float], visit: int, ends: bool, message: str
) -> None:
    history = History(PROBES)
    history.segment_started("mnist")
    before = history.to_json()
    with pytest.raises(ValueError, match=message):
        history.evaluated(evaluated(10, accuracy, visit, ends=ends))
    assert history.to_json() == before


def test_two_probes_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="mnist, mnist"):
        History(["mnist", "mnist"])


steps = st.lists(
    st.one_of(
        st.tuples(st.just("learn"), st.integers(1, 200), st.floats(0, 1)),
        st.tuples(st.just("measure"), st.floats(0, 1), st.floats(0, 1)),
        st.tuples(st.just("switch"), st.sampled_from([*PROBES, "noise"]), st.just(0.0)),
    ),
    max_size=40,
)


def play(history: History, events: list[tuple[str, int | float | str, float]]) -> list[ScoresUpdated]:
    """Play a stream in which every segment's end is evaluated, as the loop does."""
    seen: list[ScoresUpdated] = []
    for kind, value, share in events:
        if kind == "learn":
            history.learned(int(value), int(int(value) * share))
        elif kind == "measure":
            seen.append(at(history, float(value), share))
        else:
            if history.segments:
                seen.append(at(history, 0.75, share, ends=True))
            history.segment_started(str(value))
    return seen


@given(steps, st.integers(0, 40))
def test_after_a_crash_it_continues_bit_for_bit(
    events: list[tuple[str, int | float | str, float]], crash: int
) -> None:
    steady, crashed = History(PROBES), History(PROBES)
    at(steady, 0.1, 0.2)
    at(crashed, 0.1, 0.2)
    play(steady, events[:crash])
    play(crashed, events[:crash])
    restored = History.from_json(json.loads(json.dumps(crashed.to_json())))
    assert play(restored, events[crash:]) == play(steady, events[crash:])
    assert restored.to_json() == steady.to_json()
    assert restored.points == steady.points


nameless_steps = st.lists(
    st.one_of(
        st.tuples(st.just("learn"), st.integers(1, 200), st.floats(0, 1)),
        st.tuples(st.just("measure"), st.floats(0, 1), st.floats(0, 1)),
    ),
    max_size=40,
)


@given(nameless_steps, st.integers(0, 40))
def test_without_segments_the_running_best_equals_the_formula_over_everything_across_a_crash(
    events: list[tuple[str, int | float | str, float]], crash: int
) -> None:
    history = History(PROBES)
    at(history, 1.0, 1.0)
    measured = play(history, events[:crash])
    history = History.from_json(json.loads(json.dumps(history.to_json())))
    measured += play(history, events[crash:])
    curve = [point.accuracy for point in measured if point.samples]
    if not curve or not measured[-1].samples:
        return
    by_probe = measured[-1].forgetting_by_probe
    assert by_probe == {name: score_formulas.below_best([row[name] for row in curve]) for name in PROBES}
    assert measured[-1].scores.forgetting == fmean(by_probe.values())


@given(steps)
def test_running_values_equal_the_formulas_over_everything(
    events: list[tuple[str, int | float | str, float]],
) -> None:
    history = History(PROBES)
    at(history, 0.1, 0.2)
    measured = play(history, events)
    if not measured or not measured[-1].segments:
        return
    column = {name: j for j, name in enumerate(PROBES)}
    visits = [column.get(name) for name in measured[-1].segments]
    first = score_formulas.first_visits(visits)
    points = [p for p in history.points if p.visit > 0]
    rows = [[p.accuracy[j] for j, k in first.items() if k <= p.visit] for p in points]
    others = [(j, k) for j, k in first.items() if j != visits[-1]]
    after = [[p.accuracy[j] for p in points if p.visit > k and visits[p.visit - 1] != j] for j, k in others]
    scores = measured[-1].scores
    assert scores.anytime_accuracy == pytest.approx(score_formulas.anytime_accuracy(rows))
    assert scores.min_acc == pytest.approx(score_formulas.min_acc(curve for curve in after if curve))


def test_the_curve_stays_small_while_minima_and_means_see_every_evaluation() -> None:
    history = History(PROBES)
    at(history, 0.1, 0.1)
    history.segment_started("mnist")
    at(history, 0.9, 0.1, ends=True)
    history.segment_started("fashion-mnist")
    turns = 5 * CURVE_POINTS
    for turn in range(turns):
        history.learned(100, 50)
        measured = at(history, 0.25 if turn == 4321 else 0.75, 0.5)
    last = at(history, 0.75, 0.5, ends=True)
    points = history.points
    assert CURVE_POINTS / 2 <= len(points) <= CURVE_POINTS + 3
    assert [p.ends_segment for p in points].count(True) == 2
    gaps = {b.samples - a.samples for a, b in pairwise(points[2:-1])}
    assert len(gaps) == 1, "thinning keeps the points evenly spaced"
    assert measured.scores.min_acc == 0.25
    assert all(p.accuracy[0] != 0.25 for p in points), "the dip itself was thinned away"
    assert last.scores.anytime_accuracy == pytest.approx((0.9 + (turns + 1) * 0.625 - 0.25) / (turns + 2))


def test_classes_are_kept_for_fewer_evaluations_and_always_for_the_last() -> None:
    history = History(PROBES)
    at(history, 0.1, 0.1)
    history.segment_started("mnist")
    for turn in range(5 * CLASS_POINTS):
        history.learned(1, 1)
        at(history, turn / (5 * CLASS_POINTS), 0.5)
        kept = history.by_class
        assert len(kept) <= CLASS_POINTS + 1
        assert kept[-1].samples == history.samples
    again = History.from_json(json.loads(json.dumps(history.to_json())))
    assert again.by_class == history.by_class
    assert kept[-1].accuracy[1] == (1.0, 0.0)
    assert [point.samples for point in kept] == sorted({point.samples for point in kept})


@pytest.mark.parametrize("value", [None, [], {}, {"probes": 3}, {"probes": ["mnist"], "R": [["much"]]}])
def test_an_invalid_history_is_refused(value: None) -> None:
    with pytest.raises(InvalidFile, match="not an evaluation history"):
        History.from_json(value)


def test_a_history_that_follows_merged_ones_counts_their_samples_and_measures_anew() -> None:
    withheld = History(PROBES, least=7)
    withheld.learned(500, None)
    history = History.following([the_article()[0], withheld])
    again = History.from_json(history.to_json())
    assert (again.samples, again.probes, again.segments) == (4500, PROBES, [])
    assert (again.prequential.cumulative, again.prequential.fading) == (0.775, None)
    assert (again.tracker.samples, again.latest()) == (4500, None)
    at(again, 0.8, 0.2)
    again.segment_started("fashion-mnist")
    again.learned(1000, 700)
    measured = at(again, 0.7, 0.9, ends=True)
    assert measured.R == ((0.8, 0.2), (0.7, 0.9))
