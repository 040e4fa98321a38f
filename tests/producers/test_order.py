"""The order of a stream: every row once, any place at once, blends, noise and faults as declared."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lethe.wire import Layout
from lethe_producers.malformed import kinds_of
from lethe_producers.order import Order, Place
from lethe_producers.scenario import Scenario, load_scenario, shipped_scenarios


def places(order: Order) -> list[Place]:
    return [order.at(index) for index in range(len(order))]


def scenario_of(*segments: dict[str, object]) -> Scenario:
    return Scenario.model_validate({"name": "s", "description": "", "segments": segments})


@st.composite
def blended(draw: st.DrawFn) -> Scenario:
    counts = draw(st.lists(st.integers(1, 60), min_size=1, max_size=4))
    segments: list[dict[str, object]] = []
    room = counts[0]
    for number, count in enumerate(counts):
        half = draw(st.integers(0, min(room, counts[number + 1]))) if number + 1 < len(counts) else 0
        room = counts[number + 1] - half if number + 1 < len(counts) else 0
        segments.append({"subject": f"s{number}", "dataset": "mnist", "count": count, "blend": 2 * half})
    return scenario_of(*segments)


@pytest.mark.parametrize("scenario", shipped_scenarios(), ids=lambda scenario: scenario.name)
def test_no_row_is_used_twice_and_the_total_is_exact(scenario: Scenario) -> None:
    order = Order(scenario, 0, 3000)
    used = Counter((scenario.segments[place.source].pool, place.row) for place in places(order))
    assert len(order) == scenario.total(3000) == len(used)


def test_a_whole_data_set_is_used_to_its_last_row() -> None:
    order = Order(load_scenario("gradual"), 7)
    rows = [{place.row for place in places(order) if place.source == source} for source in (0, 1)]
    assert rows == [set(range(60_000))] * 2


def test_in_a_ramp_the_rows_of_two_segments_mix() -> None:
    order = Order(load_scenario("gradual"), 0)
    assert order.ramps == [(50_000, 70_000)]
    mixed = [index for index in range(len(order)) if order.at(index).source != order.at(index).segment]
    assert 50_000 <= mixed[0] < mixed[-1] < 70_000
    assert Order(load_scenario("gradual"), 0, 6000).ramps == [(5000, 7000)]
    assert Order(load_scenario("recurring"), 0).ramps == []


@settings(deadline=None)
@given(blended(), st.integers(0, 3), st.none() | st.integers(1, 60))
def test_in_any_blend_each_row_of_each_segment_is_used_once(
    scenario: Scenario, seed: int, samples: int | None
) -> None:
    order = Order(scenario, seed, samples)
    found = places(order)
    assert Counter(place.source for place in found) == Counter(dict(enumerate(scenario.lengths(samples)))), (
        "each segment gives as many rows as it has"
    )
    assert len({place.row for place in found}) == len(found)
    assert [place.segment for place in found] == sorted(place.segment for place in found)
    assert Counter(place.segment for place in found) == Counter(place.source for place in found)


def test_any_place_can_be_asked_for_without_those_before() -> None:
    scenario = load_scenario("poisoned")
    whole = places(Order(scenario, 3, 500))
    for index in (999, 500, 0, 499):
        assert Order(scenario, 3, 500).at(index) == whole[index]


def test_the_seed_decides_the_order() -> None:
    scenario = load_scenario("mnist-to-fashion")
    assert places(Order(scenario, 0, 100)) == places(Order(scenario, 0, 100))
    assert places(Order(scenario, 0, 100)) != places(Order(scenario, 1, 100))


def test_a_shortened_stream_has_another_name() -> None:
    scenario = load_scenario("gradual")
    assert Order(scenario, 5).run == "gradual/5"
    assert Order(scenario, 5, 100).run == "gradual@100/5"


def test_a_blend_follows_a_sigmoid_while_the_schedule_switches_once() -> None:
    found = places(Order(load_scenario("gradual"), 0))
    # the window is 20,000 wide about 60,000; sigmoid(-2.5) = 0.076, averaged over a tenth
    shares = [
        sum(place.source for place in found[at : at + 2000]) / 2000 for at in range(50_000, 70_000, 2000)
    ]
    expected = [0.011, 0.030, 0.077, 0.184, 0.381, 0.619, 0.816, 0.923, 0.970, 0.989]
    assert shares == pytest.approx(expected, abs=0.04)
    assert {place.source for place in found[:50_000]} == {0}
    assert {place.source for place in found[70_000:]} == {1}
    assert [place.segment for place in found] == [0] * 60_000 + [1] * 60_000


def test_each_visit_of_a_recurring_subject_shows_new_rows() -> None:
    found = places(Order(load_scenario("recurring"), 0))
    first, again = ({place.row for place in found if place.source == visit} for visit in (0, 2))
    assert first.isdisjoint(again)
    assert first | again == set(range(60_000))


def test_the_declared_share_is_malformed_in_every_way_equally_often() -> None:
    found = places(Order(load_scenario("poisoned"), 0, 6000))
    for segment in (0, 1):
        faults = Counter(place.fault for place in found if place.segment == segment)
        assert faults.pop(None) == 5880
        assert faults == dict.fromkeys(kinds_of(Layout()), 10)


def test_the_declared_share_of_labels_is_wrong() -> None:
    found = places(Order(load_scenario("poisoned"), 0, 1800))
    shifts = Counter(place.label_shift for place in found)
    assert shifts.pop(0) == 3600 - 180
    assert shifts == dict.fromkeys(range(1, 10), 20)


def test_a_place_outside_the_stream_is_an_error() -> None:
    order = Order(load_scenario("rotated"), 0, 10)
    for index in (-1, 40):
        with pytest.raises(IndexError, match=f"index {index} of a stream of 40"):
            order.at(index)
