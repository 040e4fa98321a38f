"""The scoreboard as it is summarised, printed and drawn."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from service.bench.scoreboard_page import write_page
from service.bench.scoreboard_table import WIDTH, scoreboard_table
from service.bench.scores import JOINT, Score, summarise
from tests.scores import score


def test_a_summary_is_the_mean_and_the_sample_deviation_over_the_seeds() -> None:
    (summary,) = summarise([score(acc=0.8), score(acc=0.9, seed=1), score(acc=1.0, seed=2)])
    assert summary.seeds == 3
    assert summary.measures["acc"] is not None
    assert list(summary.measures["acc"]) == pytest.approx([0.9, 0.1])
    assert summary.measures["below_joint"] is None


def test_a_summary_has_the_mean_accuracy_on_each_probe() -> None:
    (summary,) = summarise([score(probes={"a": 0.8, "b": 1.0}), score(probes={"a": 0.9, "b": 0.9})])
    assert summary.probes == pytest.approx({"a": 0.85, "b": 0.95})


def test_one_seed_has_no_deviation() -> None:
    (summary,) = summarise([score(bwt=-0.25)])
    assert summary.measures["bwt"] == (-0.25, None)


def test_scenarios_and_learners_are_summarised_apart_and_stay_in_order() -> None:
    scores = [score(), score(scenario="gradual"), score(learner="finetune"), score(seed=1)]
    found = [(summary.scenario, summary.learner, summary.seeds) for summary in summarise(scores)]
    assert found == [("abrupt", "ridge", 2), ("abrupt", "finetune", 1), ("gradual", "ridge", 1)]


def test_a_learner_that_was_told_of_the_switches_is_another_one() -> None:
    alone, told = summarise([score(), score(told=True)])
    assert (alone.told, told.told) == (False, True)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(scoreboard_table([alone, told]))
    assert [
        ("1/1" in line, "told" in line) for line in console.export_text().splitlines() if "ridge" in line
    ] == [
        (True, False),
        (False, True),
    ]


def test_where_segments_come_back_the_table_says_how_many_were_recognised() -> None:
    def shown(*scores: Score) -> str:
        console = Console(width=WIDTH, record=True, file=io.StringIO())
        console.print(scoreboard_table(summarise(scores)))
        return console.export_text()

    assert "recognised" not in shown(score(returns=0, recognised=0))
    text = shown(score(scenario="recurring", returns=2, recognised=1), score(returns=0, recognised=0))
    assert "recognised" in text
    assert " 1/2 " in text


def test_the_widest_table_there_is_fits_where_no_terminal_says_how_wide_it_is() -> None:
    names = {"scenario": "fashion-to-mnist", "learner": "generative-replay", "retains": "5,000 samples"}
    wide = score(
        **names,
        below_joint=0.01,
        samples_per_second=12_345.0,
        state_bytes=2**30,
        ece=0.0123,
        delay=1234.0,
        longest_delay=2345.0,
    )
    other = replace(wide, seed=1, samples_per_second=10_000.0)
    console = Console(width=WIDTH, record=True, file=io.StringIO())
    console.print(scoreboard_table(summarise([wide, other, score()])))
    text = console.export_text()
    assert "…" not in text
    assert "0.012" in text
    assert "1,234" in text
    assert "2,345" in text


def test_the_page_has_a_panel_for_each_measure_that_some_score_has(tmp_path: Path) -> None:
    board = tmp_path / "board.html"
    write_page(summarise([score(windowed_forgetting=0.5, windowed_plasticity=0.25), score(seed=1)]), board)
    drawn = board.read_text().split("Plotly.newPlot", 1)[1]
    assert "windowed forgetting" in drawn
    assert "windowed plasticity" in drawn
    assert "ECE" not in drawn


def test_the_page_keeps_those_who_were_told_apart_and_says_what_each_keeps(tmp_path: Path) -> None:
    board = tmp_path / "board.html"
    write_page(summarise([score(), score(told=True)]), board)
    drawn = board.read_text().split("Plotly.newPlot", 1)[1]
    assert drawn.count("ridge: statistics, told") > 1
    for title in ("switches found", "false alarms", "bytes of a checkpoint"):
        assert title in drawn


def test_the_page_needs_no_network_and_escapes_names(tmp_path: Path) -> None:
    write_page(summarise([score(learner="<b>"), score(learner=JOINT, bwt=None)]), tmp_path / "board.html")
    html = (tmp_path / "board.html").read_text()
    assert "plotly.js v" in html
    assert "<b>" not in html.split("Plotly.newPlot", 1)[1]
