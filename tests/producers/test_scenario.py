"""Scenarios: those that are shipped, and the errors of a wrong file."""

from pathlib import Path

import pytest

from lethe.errors import InvalidScenario
from lethe_producers.order import Order
from lethe_producers.scenario import Scenario, load_scenario, shipped_scenarios

TWO = """\
name: two
description: MNIST, then Fashion-MNIST.
segments:
  - {subject: mnist, dataset: mnist, count: 100}
  - {subject: fashion-mnist, dataset: fashion-mnist, count: 50}
"""


def written(folder: Path, text: str) -> str:
    path = folder / "river.yaml"
    path.write_text(text)
    return str(path)


def segments(*changes: dict[str, object]) -> Scenario:
    base = {"subject": "mnist", "dataset": "mnist"}
    return Scenario.model_validate(
        {"name": "s", "description": "", "segments": [base | change for change in changes]}
    )


def test_every_scenario_that_was_promised_is_shipped_under_its_own_name() -> None:
    totals = {scenario.name: scenario.total() for scenario in shipped_scenarios()}
    assert totals == {
        "fashion-to-mnist": 120_000,
        "gradual": 120_000,
        "loans": 32_000,
        "mnist": 60_000,
        "mnist-to-fashion": 120_000,
        "permuted": 60_000,
        "poisoned": 120_000,
        "recurring": 120_000,
        "rotated": 60_000,
        "split-mnist": 60_000,
        "stationary": 120_000,
    }
    assert all(load_scenario(name).name == name for name in totals)


def test_the_stationary_scenario_has_each_row_twice_in_other_orders_and_no_switch() -> None:
    scenario = load_scenario("stationary")
    order = Order(scenario, seed=0)
    places = [order.at(index) for index in range(len(order))]
    once, again = ([place.row for place in places if place.segment == half] for half in (0, 1))
    assert len(places) == 120_000
    assert sorted(once) == sorted(again) == list(range(60_000))
    assert once != again
    assert {scenario.segments[place.segment].subject for place in places} == {"mnist"}
    assert scenario.blends() == [0, 0]


def test_a_scenario_is_read_from_a_file(tmp_path: Path) -> None:
    scenario = load_scenario(written(tmp_path, TWO))
    assert (scenario.name, scenario.lengths()) == ("two", [100, 50])


def test_samples_shorten_each_segment_that_is_longer(tmp_path: Path) -> None:
    scenario = load_scenario(written(tmp_path, TWO))
    assert scenario.lengths(70) == [70, 50]
    assert scenario.total(70) == 120


def test_blends_shrink_with_the_shorter_of_their_sides() -> None:
    scenario = segments(
        {"count": 100, "blend": 80}, {"count": 1000, "blend": 400, "subject": "b"}, {"count": 1000}
    )
    assert scenario.blends() == [80, 400, 0]
    assert scenario.blends(100) == [8, 40, 0]


def test_subjects_are_listed_in_the_order_of_first_visits() -> None:
    assert [segment.subject for segment in load_scenario("recurring").subjects] == ["mnist", "fashion-mnist"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (TWO.replace("count: 100", "amount: 100"), "segments.0.amount: Extra inputs"),
        (TWO.replace("dataset: mnist", "dataset: cifar"), "segments.0.dataset: Input should be"),
        (TWO.replace("count: 50", "count: -1"), "segments.1.count: Input should be greater"),
        (TWO.replace("count: 50", "malformed: 1.5"), "segments.1.malformed: Input should be less"),
        (TWO.replace("count: 100", "classes: [1, 1]"), "segments.0: classes names a class twice"),
        (
            TWO.replace("count: 100", "classes: [10]"),
            "segments.0.classes: 10 is not a class of mnist, which has 0 to 9",
        ),
        (
            TWO.replace("count: 100", "transform: {}"),
            "segments.0.transform.0: needs one of rotate, permute",
        ),
        (
            TWO.replace("count: 100", "transform: {rotate: 9, permute: 1}"),
            "segments.0.transform.0: needs one of rotate, permute",
        ),
        (TWO.replace("count: 100", "count: 60001"), "segments.0.count: 60001 rows are requested"),
        (TWO.replace("count: 50", "blend: 2"), "segments.1.blend: the last segment has none"),
        (TWO.replace("count: 100", "count: 100, blend: 102"), "segments.1.blend: its 50 rows are fewer"),
        (TWO.replace("name: two", "name: one/two"), "name: String should match"),
        (TWO.replace("subject: mnist", "subject: a/b"), "segments.0.subject: String should match"),
        (
            TWO + "  - {subject: mnist, dataset: fashion-mnist}",
            "segments.2.dataset: subject mnist had another",
        ),
        (
            TWO + "  - {subject: m, dataset: mnist, classes: [1]}",
            "segments.0.classes: another segment of mnist",
        ),
        ("name: [", "is not YAML"),
        ("just words", "Input should be a valid dictionary"),
    ],
)
def test_a_wrong_file_is_named_and_so_is_its_key(tmp_path: Path, wrong: str, said: str) -> None:
    path = written(tmp_path, wrong)
    with pytest.raises(InvalidScenario) as caught:
        load_scenario(path)
    assert path in str(caught.value)
    assert said in str(caught.value)


def test_rows_that_earlier_segments_used_cannot_be_asked_for_again() -> None:
    with pytest.raises(
        ValueError, match=r"segments.1.count: all rows .* left 0 of 60000 .*: give each segment a count"
    ):
        segments({}, {})
    assert segments({}, {"seed": 1}).total() == 120_000


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InvalidScenario, match=r"'styx' is none of .*mnist-to-fashion.*\./styx"):
        load_scenario("styx")


def test_a_file_in_the_working_folder_never_takes_the_place_of_a_shipped_scenario(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = load_scenario("stationary")
    for name in ("stationary", "stationary.yaml"):
        (tmp_path / name).write_text(TWO)
    monkeypatch.chdir(tmp_path)
    assert load_scenario("stationary") == shipped
    assert load_scenario("./stationary").name == "two"
    with pytest.raises(InvalidScenario, match=r"as \./stationary\.yaml"):
        load_scenario("stationary.yaml")


def test_the_error_for_a_wrong_file_is_one_line_with_the_line_of_the_key(tmp_path: Path) -> None:
    path = written(
        tmp_path, TWO.replace("subject: mnist", "subject: a/b").replace("name: two", "name: one/two")
    )
    with pytest.raises(InvalidScenario) as caught:
        load_scenario(path)
    assert "\n" not in str(caught.value)
    assert "line 1: name: " in str(caught.value)
    assert ": segments.0.subject: " in str(caught.value)
