"""A regime that comes back is recognised, one that never was is new, and both are held against the truth."""

import doctest
import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.boundaries import Boundaries
from service.drift import verdict
from service.drift.features import sum_features
from service.drift.reference import FeatureReference
from service.drift.regimes import MOST_REGIMES, TOLD_AFTER, Regimes
from service.drift.verdict import RegimeVerdict, judge_regimes
from service.drift.watch import Watch
from service.evaluation.history import History
from service.events import BoundariesJudged, Event, RegimeTold, SegmentStarted
from service.judgement import Judgement
from service.learners.base import LearnerContext
from service.learners.finetune import Finetune
from service.loop import Loop
from service.wire import Sample
from tests.feeds import LAYOUT, MemoryFeed, segment
from tests.test_drift import pictures


def usual(seed: int, count: int, brightness: int) -> FeatureReference:
    reference = FeatureReference()
    reference.add(sum_features(pictures(seed, count, brightness)))
    return reference


@pytest.mark.parametrize("seed", range(5))
def test_new_images_of_a_known_regime_are_recognised_and_others_are_new(seed: int) -> None:
    regimes = Regimes()
    for brightness in (20, 35, 50):
        number = regimes.recognise(usual(seed, TOLD_AFTER, brightness))
        regimes.left(number, usual(seed, 4000, brightness))
    assert regimes.met == 3
    again = [regimes.recognise(usual(seed + 100, TOLD_AFTER, b)) for b in (50, 20, 35)]
    assert again == [3, 1, 2]
    assert regimes.recognise(usual(seed + 200, TOLD_AFTER, 42)) == 4


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
def test_a_watch_put_down_in_json_recognises_what_it_met_before(cut: int) -> None:
    stream = [pictures(seed, 64, b) for seed, b in enumerate([20] * 30 + [50] * 30 + [20] * 30 + [80] * 30)]
    watch, told = Watch(), []
    for turn, x_NCHW in enumerate(stream):
        if turn == cut:
            watch = Watch.going_on(json.loads(json.dumps(watch.to_json())))
        before = watch.regime
        watch.hears(sum_features(x_NCHW), 60, 0.1)
        if before is None and watch.regime is not None:
            told.append(watch.regime)
    assert told == [1, 2, 1, 3]


def test_the_example_in_the_docstring_holds() -> None:
    assert doctest.testmod(verdict).failed == 0


@pytest.mark.parametrize(
    ("told", "judged"),
    [
        ([(300, 1), (1300, 2), (2300, 1), (3300, 2)], RegimeVerdict(2, 2, 0)),
        ([(300, 1), (1300, 2), (2300, 3), (3300, 2)], RegimeVerdict(2, 1, 0)),
        ([(300, 1), (2300, 2), (3300, 1)], RegimeVerdict(2, 1, 1)),  # the first switch was missed
        ([(300, 1), (1300, 2), (2300, 2), (2600, 1), (3300, 2)], RegimeVerdict(2, 2, 0)),  # corrected in time
        ([(300, 1), (1300, 2), (2300, 1)], RegimeVerdict(1, 1, 0)),  # of the last visit nothing is known yet
        ([], RegimeVerdict(1, 0, 0)),
    ],
)
def test_visits_are_judged_by_the_regime_told_last_in_them(
    told: list[tuple[int, int]], judged: RegimeVerdict
) -> None:
    assert judge_regimes([(0, "a"), (1000, "b"), (2000, "a"), (3000, "b")], told) == judged


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12))
def test_one_who_tells_every_segment_right_is_never_mistaken(names: list[str]) -> None:
    names = [names[0], *(b for a, b in pairwise(names) if a != b)]
    order = list(dict.fromkeys(names))
    switches = [(1000 * index, name) for index, name in enumerate(names)]
    told = [(at + 300, order.index(name) + 1) for at, name in switches]
    returns = len(names) - len(order)
    assert judge_regimes(switches, told) == RegimeVerdict(returns, returns, 0)
    everything_new = [(at, number) for number, (at, _) in enumerate(told)]
    assert judge_regimes(switches, everything_new) == RegimeVerdict(returns, 0, 0)


def taking_turns(visits: int) -> list[Sample]:
    dark = [replace(sample, pixels=sample.pixels // 4) for sample in segment("b", 1600, seed=1)]
    return [sample for visit in range(visits) for sample in (dark if visit % 2 else segment("a", 1600))]


def learn(samples: list[Sample]) -> tuple[History, list[Event]]:
    """Learn with everybody listening who listens in a service."""
    history, events = History(()), list[Event]()
    judgement = Judgement(history, events.append)

    def emit(event: Event) -> None:
        events.append(event)
        judgement(event)

    Loop(
        feed=MemoryFeed(samples, size=32),
        learner=Finetune(LearnerContext(LAYOUT)),
        evaluator=None,
        evaluate_every=1000,
        history=history,
        emit=emit,
        stopping=lambda: False,
        watch=Watch(),
    ).run()
    return history, events


def test_a_run_tells_which_regime_it_is_in_and_how_well_it_knows() -> None:
    history, events = learn(taking_turns(4))
    told = [event for event in events if isinstance(event, RegimeTold)]
    assert [(event.regime, event.returned) for event in told] == [
        (1, False),
        (2, False),
        (1, True),
        (2, True),
    ]
    judged = [event for event in events if isinstance(event, BoundariesJudged)]
    last = judged[-1]
    assert (last.found, last.missed, last.awaited, last.false_alarms) == (3, 0, False, 0)
    assert (last.returns, last.recognised, last.mistaken) == (2, 2, 0)
    assert last.delay is not None
    assert 0 < last.delay <= 300
    at_switches = [judged[i] for i, e in enumerate(e for e in events if isinstance(e, SegmentStarted))]
    assert not at_switches[0].awaited, "the first segment is no switch"
    assert any(event.awaited for event in judged), "right after a switch it is not missed, but awaited"
    result = Boundaries.of(History.from_json(json.loads(json.dumps(history.to_json()))))
    assert [regime.regime for regime in result.regimes] == [1, 2, 1, 2]
    assert (result.returns, result.recognised, result.mistaken, result.missed) == (2, 2, 0, 0)


def test_without_a_truth_nothing_is_judged() -> None:
    _, events = learn([replace(sample, segment=None) for sample in taking_turns(2)])
    assert [event.regime for event in events if isinstance(event, RegimeTold)] == [1, 2]
    assert not [event for event in events if isinstance(event, BoundariesJudged)]
