"""A returning regime is recognised, others are new, and both are scored against the segments."""

import doctest
import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lethe.drift.detector import BoundaryDetector
from lethe.drift.features import sum_features
from lethe.drift.reference import FeatureReference
from lethe.drift.regimes import ASSIGNED_AFTER, MOST_REGIMES, Regimes
from lethe.evaluation import boundary_scores
from lethe.evaluation.boundary_scores import Boundaries, BoundaryScoring, RegimeVerdict, match_regimes
from lethe.evaluation.history import History
from lethe.events import BoundariesScored, Event, RegimeAssigned, SegmentStarted
from lethe.learners.base import LearnerContext
from lethe.learners.gradient.finetune import Finetune
from lethe.runtime.loop import Loop
from lethe.wire import Sample
from tests.support.drifting import pictures, reference
from tests.support.feeds import LAYOUT, ScriptedFeed, segment


def usual(seed: int, count: int, brightness: int) -> FeatureReference:
    return reference(pictures(seed, count, brightness))


@pytest.mark.parametrize("seed", range(5))
def test_new_images_of_a_known_regime_are_recognised_and_others_are_new(seed: int) -> None:
    regimes = Regimes()
    for brightness in (20, 35, 50):
        number = regimes.recognise(usual(seed, ASSIGNED_AFTER, brightness))
        regimes.left(number, usual(seed, 4000, brightness))
    assert regimes.met == 3
    again = [regimes.recognise(usual(seed + 100, ASSIGNED_AFTER, b)) for b in (50, 20, 35)]
    assert again == [3, 1, 2]
    assert regimes.recognise(usual(seed + 200, ASSIGNED_AFTER, 42)) == 4


def test_a_regime_that_came_back_is_remembered_with_all_its_visits() -> None:
    regimes = Regimes()
    for seed in range(3):
        regimes.left(1, usual(seed, 500, 20))
    assert regimes.references[1].count == 1500


def test_the_number_of_regimes_remembered_is_bounded() -> None:
    regimes = Regimes()
    for number in range(1, MOST_REGIMES + 10):
        regimes.left(number, usual(number, 8, 20))
    assert len(regimes.references) == MOST_REGIMES


@pytest.mark.parametrize("cut", [0, 20, 70, 100])
def test_a_detector_restored_from_json_recognises_earlier_regimes(cut: int) -> None:
    stream = [pictures(seed, 64, b) for seed, b in enumerate([20] * 30 + [50] * 30 + [20] * 30 + [80] * 30)]
    detector, detected = BoundaryDetector(), []
    for turn, x_NCHW in enumerate(stream):
        if turn == cut:
            detector = BoundaryDetector.from_json(json.loads(json.dumps(detector.to_json())))
        before = detector.regime
        detector.update(sum_features(x_NCHW), 60, 0.1)
        if before is None and detector.regime is not None:
            detected.append(detector.regime)
    assert detected == [1, 2, 1, 3]


def test_the_example_in_the_docstring_holds() -> None:
    assert doctest.testmod(boundary_scores).failed == 0


@pytest.mark.parametrize(
    ("detected", "expected"),
    [
        ([(300, 1), (1300, 2), (2300, 1), (3300, 2)], RegimeVerdict(2, 2, 0)),
        ([(300, 1), (1300, 2), (2300, 3), (3300, 2)], RegimeVerdict(2, 1, 0)),
        ([(300, 1), (2300, 2), (3300, 1)], RegimeVerdict(2, 1, 1)),  # the first switch was missed
        ([(300, 1), (1300, 2), (2300, 2), (2600, 1), (3300, 2)], RegimeVerdict(2, 2, 0)),  # corrected in time
        ([(300, 1), (1300, 2), (2300, 1)], RegimeVerdict(1, 1, 0)),  # of the last visit nothing is known yet
        ([], RegimeVerdict(1, 0, 0)),
    ],
)
def test_visits_are_scored_by_the_regime_assigned_last_in_them(
    detected: list[tuple[int, int]], expected: RegimeVerdict
) -> None:
    assert match_regimes([(0, "a"), (1000, "b"), (2000, "a"), (3000, "b")], detected) == expected


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12))
def test_right_assignments_are_never_mistaken(names: list[str]) -> None:
    names = [names[0], *(b for a, b in pairwise(names) if a != b)]
    order = list(dict.fromkeys(names))
    switches = [(1000 * index, name) for index, name in enumerate(names)]
    detected = [(at + 300, order.index(name) + 1) for at, name in switches]
    returns = len(names) - len(order)
    assert match_regimes(switches, detected) == RegimeVerdict(returns, returns, 0)
    everything_new = [(at, number) for number, (at, _) in enumerate(detected)]
    assert match_regimes(switches, everything_new) == RegimeVerdict(returns, 0, 0)


def taking_turns(visits: int) -> list[Sample]:
    dark = [replace(sample, pixels=sample.pixels // 4) for sample in segment("b", 1600, seed=1)]
    return [sample for visit in range(visits) for sample in (dark if visit % 2 else segment("a", 1600))]


def learn(samples: list[Sample]) -> tuple[History, list[Event]]:
    """Learn with everybody listening who listens in a service."""
    history, events = History(()), list[Event]()
    scoring = BoundaryScoring(history, events.append)

    def emit(event: Event) -> None:
        events.append(event)
        scoring(event)

    Loop(
        feed=ScriptedFeed(samples, size=32),
        learner=Finetune(LearnerContext(LAYOUT)),
        evaluator=None,
        evaluate_every=1000,
        history=history,
        emit=emit,
        stopping=lambda: False,
        detector=BoundaryDetector(),
    ).run()
    return history, events


def test_a_run_emits_its_regime_and_how_well_regimes_are_assigned() -> None:
    history, events = learn(taking_turns(4))
    detected = [event for event in events if isinstance(event, RegimeAssigned)]
    assert [(event.regime, event.returned) for event in detected] == [
        (1, False),
        (2, False),
        (1, True),
        (2, True),
    ]
    scored = [event for event in events if isinstance(event, BoundariesScored)]
    last = scored[-1]
    assert (last.found, last.missed, last.awaited, last.false_alarms) == (3, 0, False, 0)
    assert (last.returns, last.recognised, last.mistaken) == (2, 2, 0)
    assert last.delay is not None
    assert 0 < last.delay <= 300
    at_switches = [scored[i] for i, e in enumerate(e for e in events if isinstance(e, SegmentStarted))]
    assert not at_switches[0].awaited, "the first segment is no switch"
    assert any(event.awaited for event in scored), "right after a switch it is not missed, but awaited"
    result = Boundaries.of(History.from_json(json.loads(json.dumps(history.to_json()))))
    assert [regime.regime for regime in result.regimes] == [1, 2, 1, 2]
    assert (result.returns, result.recognised, result.mistaken, result.missed) == (2, 2, 0, 0)


def test_without_segments_nothing_is_scored() -> None:
    _, events = learn([replace(sample, segment=None) for sample in taking_turns(2)])
    assert [event.regime for event in events if isinstance(event, RegimeAssigned)] == [1, 2]
    assert not [event for event in events if isinstance(event, BoundariesScored)]
