"""The speed benchmark: every side in each turn, and ratios to the bare loop."""

import pytest

from lethe.errors import InvalidSetting
from lethe.experiments.bench.speed import BARE, SpeedBench, Speeds, bench_speed


def test_ratios_are_of_all_turns_together() -> None:
    speeds = Speeds(100, {BARE: [1.0, 1.0, 4.0], "ridge": [1.0, 0.5, 1.5]})
    assert speeds.samples_per_second(BARE) == 50
    assert speeds.ratio("ridge") == 2
    assert speeds.quartiles("ridge") == pytest.approx((1.5, 7 / 3))
    assert speeds.ratio(BARE) == 1


def test_one_turn_has_no_spread() -> None:
    assert Speeds(100, {BARE: [1.0], "ridge": [0.5]}).quartiles("ridge") == (2, 2)


def test_every_side_learns_in_each_turn() -> None:
    speeds = list(bench_speed(SpeedBench(("finetune", "ncm"), samples=512, turns=2)))
    assert len(speeds) == 2
    assert [*speeds[-1].seconds] == [BARE, "finetune", "ncm"]
    assert all(len(turns) == 2 and min(turns) > 0 for turns in speeds[-1].seconds.values())


def test_a_learner_that_does_not_exist_is_named_before_anything_is_measured() -> None:
    with pytest.raises(InvalidSetting, match="styx"):
        next(bench_speed(SpeedBench(("styx",), samples=512)))


def test_options_are_those_of_the_learners() -> None:
    with pytest.raises(InvalidSetting, match=r"learner\.options\.wave: no such option"):
        next(bench_speed(SpeedBench(("ncm",), samples=512, options={"wave": 1})))
    (speeds,) = bench_speed(SpeedBench(("ncm",), samples=512, turns=1, options={"waves": 10}))
    assert [*speeds.seconds] == [BARE, "ncm"]
