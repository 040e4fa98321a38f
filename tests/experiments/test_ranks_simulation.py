"""The simulation of ranks: its parts are those that were measured, and each of them limits what it should."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from docs.example_events import EVENTS
from lethe.experiments.bench.ranks.costs import Fit, RoundCosts, fit, read_costs, solving_seconds
from lethe.experiments.bench.ranks.simulation import Link, Simulated, simulate, simulate_up_to, widest
from tests.support.commands import Lethe
from tests.support.reports import Page

FREE = Fit(
    batch=512,
    learning=0.2,
    spread=0.0,
    handling=0.0,
    moved_bytes=0.0,
    moved_every=16384,
    local=0.0,
    solving=0.0,
    evaluating=0.0,
    predicting=0.0,
    evaluated_every=5000,
)
LINK = Link(gbit=10, latency=0.0)
FAST = Link(gbit=1e9, latency=0.0)


def test_without_costs_each_rank_is_worth_one() -> None:
    one = simulate(FREE, 1000, FAST)
    assert one.efficiency == pytest.approx(1, abs=1e-6)
    assert one.samples_per_second == pytest.approx(1000 * 512 / 0.2, rel=1e-6)
    assert one.shares["learning"] == pytest.approx(1, abs=1e-6)


def test_all_wait_for_the_slowest() -> None:
    assert simulate(FREE, 10, FAST, slowest=2.0).efficiency == pytest.approx(0.5, abs=1e-6)
    assert simulate(replace(FREE, spread=0.3), 1, FAST).shares["waiting"] == 0, "nobody waits for itself"
    steady, unsteady = (simulate(replace(FREE, spread=0.1), ranks, FAST) for ranks in (2, 100))
    assert 1 > steady.efficiency > unsteady.efficiency > 0.7


def test_what_rank_0_does_for_each_rank_bounds_the_speed() -> None:
    busy = replace(FREE, handling=0.002)
    few, many = simulate(busy, 10, FAST), simulate(busy, 1000, FAST)
    assert few.shares["handling"] == pytest.approx(0.02 / 0.22, rel=0.01)
    assert many.samples_per_second == pytest.approx(512 / 0.002, rel=0.11), "however many there are"


def test_sums_are_moved_once_a_solve_and_gradients_in_each_round() -> None:
    gigabit = Link(gbit=8, latency=0.0)  # a second each 10⁹ bytes
    sums = replace(FREE, moved_bytes=1e9)
    assert simulate(sums, 2, gigabit).shares["moving"] == pytest.approx(1 / (1 + 16 * 0.2), rel=0.01)
    gradients = replace(sums, moved_every=None)
    assert simulate(gradients, 2, gigabit).shares["moving"] == pytest.approx(1 / 1.2, rel=0.01)
    # with 100 ranks each round is due for a solve: 51,200 samples
    assert simulate(sums, 100, gigabit).shares["moving"] == pytest.approx(1.98 / (1.98 + 0.2), rel=0.01)


def test_evaluations_and_solves_come_with_samples_and_not_with_time() -> None:
    measured = replace(FREE, evaluating=1.0, solving=2.0)
    two, hundred = simulate(measured, 2, FAST), simulate(measured, 100, FAST)
    assert two.efficiency > 0.5 > hundred.efficiency
    assert hundred.shares["evaluating"] == pytest.approx(1 / 3.2, rel=0.01), "one in each round"
    assert hundred.shares["solving"] == pytest.approx(2 / 3.2, rel=0.01)


def test_the_images_of_an_evaluation_are_divided_among_the_ranks() -> None:
    ten = simulate(replace(FREE, evaluated_every=1, evaluating=0.1, predicting=1.0), 10, FAST)
    assert ten.shares["evaluating"] == pytest.approx(0.2 / 0.4, rel=0.01)


def test_the_widest_is_the_last_before_efficiency_falls_below() -> None:
    found = [
        Simulated(n, 1.0, efficiency, {}) for n, efficiency in ((1, 1.0), (2, 0.95), (5, 0.6), (10, 0.4))
    ]
    assert (widest(found, 0.9), widest(found, 0.5)) == (2, 5)
    assert [one.ranks for one in simulate_up_to(20, FREE, LINK)] == [1, 2, 5, 10, 20]


COSTS = RoundCosts(
    seconds=60.0,
    samples=32768,
    rounds=32,
    round_seconds=40.0,
    learning_seconds=64.0,
    collective_seconds=2.0,
    collective_bytes=2 * 10**8,
    evaluations=0,
    evaluation_seconds=0.0,
)


def test_a_fit_divides_the_time_into_its_parts() -> None:
    found = fit("ridge", 512, 2, COSTS, solving=3.0)
    assert found.learning == pytest.approx(1.0), "of one rank, a round"
    assert found.spread == pytest.approx(0.25 / 0.5642, rel=1e-3), "rounds took a quarter longer"
    assert found.handling == pytest.approx((60 - 40 - 2 - 3) / 64), "what sums and solves do not explain"
    assert found.moved_every == 16384
    assert found.moved_bytes == pytest.approx(1e8), "two solves"
    assert found.local == pytest.approx(1e-8)
    assert found.evaluating == 0


def test_a_fit_of_evaluations_counts_their_sums_as_well() -> None:
    evaluated = replace(COSTS, seconds=70.0, evaluations=6, evaluation_seconds=9.0)
    found = fit("ridge", 512, 2, evaluated, solving=3.0)
    assert (found.evaluating, found.predicting) == (1.5, 0.0), "no longer than a solve"
    assert found.moved_bytes == pytest.approx(2e8 / 8)
    assert found.handling == pytest.approx((70 - 40 - 9 - 2 - 3) / 64)


def test_a_solve_is_measured_and_not_a_prediction_from_the_last_one() -> None:
    assert solving_seconds("finetune", 64) == 0
    assert solving_seconds("slda", 64) > 0.01, "2,000 waves"


def test_what_an_evaluation_takes_beyond_a_solve_is_for_images() -> None:
    found = fit("ridge", 512, 2, replace(COSTS, evaluations=2, evaluation_seconds=4.0), solving=3.0)
    assert (found.evaluating, found.predicting) == (1.5, 1.0), "of both ranks"


def test_the_simulation_of_what_was_measured_gives_what_was_measured() -> None:
    two = simulate(fit("ridge", 512, 2, COSTS, solving=3.0), 2, FAST)
    assert two.samples_per_second == pytest.approx(32768 / 60, rel=0.05)


def test_costs_are_read_from_the_page() -> None:
    from prometheus_client import generate_latest

    from tests.support.scrape import Scrape

    page = generate_latest(Scrape(*EVENTS).registry).decode()
    found = read_costs(page, 7.0, 124)
    assert (found.rounds, found.round_seconds, found.learning_seconds) == (1, 0.5, 0.75)
    assert (found.collective_seconds, found.collective_bytes) == (0.125, 784)
    assert (found.evaluations, found.evaluation_seconds) == (1, 0.75)
    assert (found - found).rounds == 0
    assert (found + found).samples == 248


RESULT = {
    "learner": "ridge",
    "ranks": 2,
    "batch_size": 512,
    "samples": 32768,
    "turns": 1,
    "evaluations": False,
    "confined": True,
    "alone": 1000.0,
    "apart": 1990.0,
    "together": 1900.0,
    "ratio": 1.9,
    "ratio_to_apart": 0.955,
    "quartiles": [1.9, 1.9],
    "quartiles_to_apart": [0.955, 0.955],
    "cpu_seconds": {"alone": 0.001, "apart": 0.001, "together": 0.001},
    "cpu_ratio": 1.0,
    "rounds": {
        "seconds": 60.0,
        "samples": 32768,
        "rounds": 32,
        "round_seconds": 40.0,
        "learning_seconds": 64.0,
        "collective_seconds": 2.0,
        "collective_bytes": 200000000,
        "evaluations": 0,
        "evaluation_seconds": 0.0,
    },
    "solving": 0.5,
}


def test_the_command_simulates_from_an_earlier_result(lethe: Lethe, tmp_path: Path) -> None:
    file = tmp_path / "ranks.json"
    file.write_text(json.dumps(RESULT | {"learner": "ncm"}))
    words = ("bench", "ranks", "--measured", str(file), "--simulate", "20", "--link-gbit", "1")
    done = lethe(*words, "--json")
    assert done.code == 0, done.stderr
    document = json.loads(done.stdout)
    assert {name: document[name] for name in RESULT} == RESULT | {"learner": "ncm"}
    assert [one["ranks"] for one in document["simulated"]] == [1, 2, 5, 10, 20]
    file.write_text(done.stdout)  # with what was simulated before
    assert json.loads(lethe(*words, "--json").stdout) == document
    shown = lethe(*words, "--html", str(tmp_path / "page.html")).stdout
    page = Page(tmp_path / "page.html")
    assert page.figures["efficiency"]["data"][0]["x"] == [1, 2, 5, 10, 20]
    assert page.figures["efficiency"]["data"][0]["y"] == [one["efficiency"] for one in document["simulated"]]
    bars = {bar["name"]: bar["y"] for bar in page.figures["time"]["data"]}
    assert bars == {part: [one["shares"][part] for one in document["simulated"]] for part in bars}
    assert "efficient: 90%" in shown
    assert "one core a learner" in shown


def test_a_page_without_a_simulation_is_refused(lethe: Lethe, tmp_path: Path) -> None:
    refused = lethe.refuses("bench", "ranks", "--html", str(tmp_path / "page.html"))
    assert "--html draws a simulation: say with --simulate of how many ranks" in refused


def test_another_file_is_refused(lethe: Lethe, tmp_path: Path) -> None:
    for text in ("{}", "[1]", "?"):
        (tmp_path / "x.json").write_text(text)
        refused = lethe.refuses("bench", "ranks", "--measured", str(tmp_path / "x.json"))
        assert "is no result of lethe bench ranks --json" in refused
