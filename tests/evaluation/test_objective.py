"""The objective on forgetting counts the time in which every old skill was within its floor, as rules do."""

from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import deploy.grafana.decisions
from deploy.grafana.decisions import decision
from lethe.evaluation import objective
from lethe.evaluation.objective import FloorTime, within_floors

DAY: Final = 86400
RULES: Final = Path(deploy.grafana.decisions.__file__).parents[1] / "prometheus" / "tests" / "slo.yaml"


def test_a_skill_is_within_its_floor_up_to_ten_points_below_its_best() -> None:
    assert within_floors({"a": 0.75, "b": 0.9}, {"a": 0.1, "b": 0.0}) is True
    assert within_floors({"a": 0.75, "b": 0.9}, {"a": 0.11, "b": 0.0}) is False


def test_a_skill_that_was_never_learned_has_no_floor() -> None:
    assert within_floors({"a": 0.1, "b": 0.8}, {"a": 0.35}) is None
    assert within_floors({"a": 0.1, "b": 0.8}, {"a": 0.35, "b": 0.0}) is True


def test_nothing_is_known_before_a_skill_has_a_floor() -> None:
    assert FloorTime().share_within is FloorTime().budget_left is None


def test_a_budget_is_one_hundredth_of_thirty_days() -> None:
    spent = FloorTime().after(0.3 * DAY, 20.5 * DAY, within=False)
    assert spent.budget_left == pytest.approx(0)
    assert spent.share_within == 0
    assert spent.after(0.1 * DAY, 20.6 * DAY, within=True).share_within == pytest.approx(0.25)


def test_what_is_thirty_days_ago_no_longer_counts() -> None:
    fell = FloorTime().after(3600, 100.5 * DAY, within=False)
    kept = fell.after(29 * DAY, 129.5 * DAY, within=True)
    assert kept.share_within == pytest.approx(1 - 3600 / (3600 + 29 * DAY))
    assert kept.after(DAY, 130.5 * DAY, within=True).share_within == 1
    idle = FloorTime().after(400 * DAY, 1000 * DAY + 1, within=False)
    assert idle.budget_left == pytest.approx(1 - (29 * DAY + 1) / (0.3 * DAY)), "one evaluation, long ago"


@given(st.lists(st.tuples(st.floats(0, 3 * DAY), st.booleans()), max_size=8))
def test_no_time_is_lost_or_counted_twice(spans: list[tuple[float, bool]]) -> None:
    floors, now = FloorTime(), 500.25 * DAY
    for seconds, within in spans:
        now += seconds
        floors = floors.after(seconds, now, within=within)
    assert sum(every for _, every, _ in floors.days) == pytest.approx(
        sum(seconds for seconds, _ in spans), abs=1e-3
    )
    below = sum(seconds for seconds, within in spans if not within)
    assert sum(below for _, _, below in floors.days) == pytest.approx(below, abs=1e-3)


def series(test: dict[str, Any], service: str) -> list[float]:
    """The losses of a service in a test of the rules, one for each minute."""
    (values,) = (
        row["values"]
        for row in test["input_series"]
        if row["series"].startswith("lethe_forgetting_ratio") and f'service="{service}"' in row["series"]
    )
    runs = [part.partition("x") for part in values.split()]
    return [float(value) for value, _, more in runs for _ in range(int(more or 0) + 1)]


@pytest.mark.parametrize("service", ["finetune", "replay", "ridge"])
def test_the_rules_count_the_same_time(service: str) -> None:
    """What promtool expects of the rules is what the service says of the same hours."""
    test = yaml.safe_load(RULES.read_text())["tests"][0]
    floors = FloorTime()
    for minute, lost in enumerate(series(test, service), start=1):
        within = within_floors({"mnist": 0.95 - lost}, {"mnist": lost})
        assert within is not None
        floors = floors.after(60, 20_000 * DAY + 60 * minute, within=within)
    for rule, ours, step in (
        ("lethe:skills_within_floor:ratio30d", floors.share_within, 0.05),
        ("lethe:forgetting_budget_left:ratio30d", floors.budget_left, 0.02),
    ):
        (asked,) = (one for one in test["promql_expr_test"] if one["expr"] == f"round({rule}, {step})")
        (expected,) = (
            row["value"] for row in asked["exp_samples"] if f'service="{service}"' in row["labels"]
        )
        assert ours == pytest.approx(expected, abs=step / 2)


def test_the_limits_are_those_of_the_rules() -> None:
    assert decision("forgetting_ratio") == objective.FORGOTTEN
    assert decision("learned_ratio") == objective.LEARNED
    assert decision("skills_within_floor_objective") == objective.OBJECTIVE
