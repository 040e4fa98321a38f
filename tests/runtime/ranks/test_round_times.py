"""Who is waited for: the slowest in a round, the only one without a batch between two."""

import pytest

from lethe.runtime.ranks.round_times import RoundTimes
from tests.support.clocks import Clock


def test_the_slowest_is_waited_for_from_when_the_next_one_has_learned() -> None:
    clock = Clock()
    times = RoundTimes(3, lambda: clock.now)
    times.begin_round()
    clock.now += 4
    assert times.elapsed == 4
    assert times.end_round([1.0, 4.0, 2.5]) == pytest.approx([0, 1.5, 0])


def test_after_a_round_rank_0_is_waited_for_while_it_evaluates() -> None:
    clock = Clock()
    times = RoundTimes(2, lambda: clock.now)
    times.begin_round()
    times.end_round([1.0, 1.0])
    clock.now += 5
    times.begin_round()
    assert times.end_round([1.0, 1.0]) == [5, 0]
    assert times.end_round([1.0, 1.0]) == [0, 0], "what was returned is not counted twice"


def test_one_rank_without_a_batch_is_waited_for_several_are_not() -> None:
    clock = Clock()
    times = RoundTimes(3, lambda: clock.now)
    times.wait_for([0, 1, 2])
    clock.now += 100
    times.wait_for([1, 2])
    clock.now += 10
    times.wait_for([2])
    clock.now += 3
    times.wait_for([2])
    clock.now += 2
    times.begin_round()
    assert times.end_round([1.0, 1.0, 1.0]) == [0, 0, 5]


def test_nobody_waits_for_a_rank_that_is_alone() -> None:
    clock = Clock()
    times = RoundTimes(1, lambda: clock.now)
    times.begin_round()
    clock.now += 5
    assert times.end_round([5.0]) == [0]
    times.wait_for([0])
    clock.now += 5
    times.wait_for([])
    assert times.end_round([5.0]) == [0]
