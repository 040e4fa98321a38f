"""The scoreboard as it is summarised, printed and drawn."""

import io
from html import escape
from pathlib import Path

import pytest
from rich.console import Console

from lethe.experiments.bench.scoreboard_page import write_page
from lethe.experiments.bench.scoreboard_table import WIDTH, scoreboard_table
from lethe.experiments.bench.scores import JOINT, Score, summarise
from tests.support.reports import Page
from tests.support.scores import score


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


def test_a_learner_that_was_given_the_boundaries_is_another_one() -> None:
    alone, given = summarise([score(), score(given_boundaries=True)])
    assert (alone.given_boundaries, given.given_boundaries) == (False, True)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(scoreboard_table([alone, given]))
    assert [
        ("1/1" in line, "given" in line) for line in console.export_text().splitlines() if "ridge" in line
    ] == [
        (True, False),
        (False, True),
    ]


def test_if_segments_recur_the_table_says_how_many_were_recognised() -> None:
    def shown(*scores: Score) -> str:
        console = Console(width=WIDTH, record=True, file=io.StringIO())
        console.print(scoreboard_table(summarise(scores)))
        return console.export_text()

    assert "recognised" not in shown(score(returns=0, recognised=0))
    text = shown(score(scenario="recurring", returns=2, recognised=1), score(returns=0, recognised=0))
    assert "recognised" in text
    assert " 1/2 " in text


def test_the_widest_table_fits_the_default_width() -> None:
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
    other = wide.model_copy(update={"seed": 1, "samples_per_second": 10_000.0})
    console = Console(width=WIDTH, record=True, file=io.StringIO())
    console.print(scoreboard_table(summarise([wide, other, score()])))
    text = console.export_text()
    assert "…" not in text
    assert "0.012" in text
    assert "1,234" in text
    assert "2,345" in text


def test_the_page_has_a_panel_for_each_measure_that_some_score_has(tmp_path: Path) -> None:
    page = drawn([score(windowed_forgetting=0.5, windowed_plasticity=0.25), score(seed=1)], tmp_path)
    assert "WF: windowed forgetting" in page.text
    assert "WP: windowed plasticity" in page.text
    assert page.figures["windowed_forgetting"]["data"][0]["x"] == [0.5]
    assert "ece" not in page.figures
    assert "ECE" not in page.text
    divisions = {attributes.get("id") for tag, attributes in page.tags if tag == "div"}
    assert divisions == set(page.figures)


def test_the_page_keeps_learners_apart_that_were_given_the_switches_and_says_what_each_retains(
    tmp_path: Path,
) -> None:
    page = drawn([score(), score(given_boundaries=True)], tmp_path)
    assert page.figures["acc"]["data"][0]["y"] == ["ridge: statistics", "ridge: statistics, switches given"]
    assert page.figures["found"]["data"][0]["y"] == ["ridge: statistics"]
    for title in ("switches detected", "false alarms", "bytes of a checkpoint"):
        assert title in page.texts


def test_the_page_needs_no_network_and_escapes_names(tmp_path: Path) -> None:
    evil = "</script><b>{{ 7 * 7 }}"
    page = drawn([score(learner=evil, scenario=evil), score(learner=JOINT, bwt=None)], tmp_path)
    assert page.open == []
    assert sum("plotly.js v" in script for script in page.scripts) == 1
    assert not [tag for tag, attributes in page.tags if tag == "b" or {"src", "href"} & set(attributes)]
    assert evil in page.texts
    assert page.figures["acc"]["data"][0]["name"] == escape(evil), "Plotly reads its texts as HTML as well"


def drawn(scores: list[Score], folder: Path) -> Page:
    write_page(summarise(scores), folder / "board.html")
    return Page(folder / "board.html")
