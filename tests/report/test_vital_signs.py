"""The signs at the top of the report and the live page are those of the dashboards, with the same limits."""

from pathlib import Path

import pytest

from deploy.grafana import frame
from deploy.grafana.panels import Limits as BoardLimits
from lethe.report.vital_signs import LEARNS, LEFT, LOST, Limits, vital_signs
from tests.support.reports import demo, made_up, report, started


@pytest.mark.parametrize(
    ("ours", "boards"), [(LOST, frame.FORGOTTEN), (LEFT, frame.LEFT), (LEARNS, frame.UNSURE)]
)
def test_the_limits_are_those_of_the_dashboards(ours: Limits, boards: BoardLimits) -> None:
    assert (ours.doubtful, ours.bad, ours.below) == (boards.doubtful, boards.bad, boards.below)


@pytest.mark.parametrize(
    ("limits", "values"), [(LOST, (0.04, 0.05, 0.1)), (LEFT, (0.5, 0.0, -0.1)), (LEARNS, (0.5, 0.2, 0.1))]
)
def test_a_value_at_a_limit_is_coloured_as_grafana_does(
    limits: Limits, values: tuple[float, float, float]
) -> None:
    assert [limits.verdict(value) for value in values] == ["good", "doubtful", "bad"]


def test_a_run_that_forgets_uses_up_its_budget_and_one_that_does_not_has_all_of_it() -> None:
    forgets, keeps = (vital_signs(run) for run in demo())
    assert [sign.verdict for sign in forgets] == ["bad", "good", "good"]
    assert [sign.verdict for sign in keeps] == ["good", "good", "good"]
    assert forgets[0].value == "−67.5"
    assert forgets[0].about.startswith("points below its best: mnist, ± ")
    assert demo()[0].within_floor == 0.0
    assert forgets[1].about == (
        "an old skill was below its floor for 11.5\u202fs; the budget is 7.2\u202fh in 30 days"
    )
    assert keeps[1].value == "100.0\u202f%"


def test_a_budget_that_is_spent_is_shown_with_the_time_that_spent_it() -> None:
    spent = demo()[0].model_copy(update={"forgetting_budget_left": -1.5})
    _, sign, _ = vital_signs(spent)
    assert (sign.value, sign.verdict) == ("−150\u202f%", "bad")
    assert sign.about.startswith("an old skill was below its floor for 18.0\u202fh")


def test_a_frozen_learner_forgets_nothing_but_does_not_learn() -> None:
    run = demo()[1].model_copy(update={"fading_accuracy": 0.12})
    assert [sign.verdict for sign in vital_signs(run)] == ["good", "good", "bad"]
    assert vital_signs(run)[2].about.endswith("guessing gives 10.0\u202f%")


def test_a_probe_that_was_never_learned_is_not_forgotten() -> None:
    run = made_up("x", 0.0, top=(0.4, 0.9))
    assert run.forgetting_by_probe["mnist"] > 0.1
    assert [sign.verdict for sign in vital_signs(run)][:2] == ["unknown", "unknown"]


def test_a_run_that_measured_nothing_has_no_signs(tmp_path: Path) -> None:
    assert {sign.verdict for sign in vital_signs(started())} == {"unknown"}
    page = report([started()], tmp_path)
    assert "no skill is old yet" in page.text


def test_each_learners_card_begins_with_its_signs(tmp_path: Path) -> None:
    runs = demo()
    page = report(runs, tmp_path)
    styles = [attributes.get("class") for tag, attributes in page.tags if tag == "dd"]
    assert [styles[:3], styles[6:9]] == [["bad", "good", "good"], ["good", "good", "good"]]
    assert page.texts.count("Is it learning?") == 2
