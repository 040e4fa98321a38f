"""A score and a count are defined once: every place that shows them derives them from that definition."""

import ast
import re
from html import escape
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from rich.console import Console

import lethe
from docs.example_events import MEASURED
from lethe.evaluation.history import History
from lethe.events import BALANCE, COUNTS, SCORES, SampleCounts, Scores
from lethe.experiments.bench.scoreboard_page import write_page
from lethe.experiments.bench.scoreboard_table import WIDTH, scoreboard_table
from lethe.experiments.bench.scores import MEASURES, Score, summarise
from lethe.observability.metrics import Metrics
from lethe.observability.result import RunResult
from lethe.report.score_curves import CHANGES, LEVELS
from lethe.web.state import State
from tests.support.reports import demo, report
from tests.support.scores import score
from tests.support.scrape import Scrape

PACKAGE = Path(lethe.__file__).parent
METRICS = [(name, info.metric) for name, info in SCORES.items() if info.metric is not None]


def test_each_score_has_a_complete_description() -> None:
    assert list(SCORES) == list(Scores.model_fields)
    for info in SCORES.values():
        assert info.label
        assert info.brief
        assert info.formula
        assert info.paper
        assert info.meaning.endswith(".")


@pytest.mark.parametrize(("name", "metric"), METRICS)
def test_a_score_is_a_gauge_with_its_brief_as_help(name: str, metric: str) -> None:
    scrape = Scrape(MEASURED)
    assert scrape.value(metric) == getattr(MEASURED.scores, name)
    registry = CollectorRegistry()
    Metrics(registry, sample_bytes=1, build={})
    help_of = {family.name: family.documentation for family in registry.collect()}
    assert help_of[f"lethe_{metric}"] == f"{SCORES[name].label}: {SCORES[name].brief}."


def test_the_runs_document_and_the_state_have_every_score_and_count() -> None:
    assert SCORES.keys() <= RunResult.model_fields.keys()
    assert State.model_fields["scores"].annotation is Scores
    assert State.model_fields["samples"].annotation is SampleCounts
    assert RunResult.model_fields["samples"].annotation is SampleCounts


def test_the_report_shows_every_score_and_count(tmp_path: Path) -> None:
    text = report(demo(), tmp_path).text
    for info in SCORES.values():
        assert info.label in text
        assert info.meaning in text
    for count in COUNTS.values():
        assert count.label in text
    drawn = {course.score for course in (*LEVELS, *CHANGES)}
    assert drawn == {name for name, info in SCORES.items() if info.curve}


def test_scores_of_the_stream_are_those_that_are_computed_after_each_batch() -> None:
    assert History(["a"]).stream_scores.keys() == {n for n, info in SCORES.items() if info.source == "stream"}


def test_the_scoreboard_shows_every_score(tmp_path: Path) -> None:
    assert SCORES.keys() <= set(MEASURES.values())
    assert SCORES.keys() <= Score.model_fields.keys()
    summaries = summarise([score(**dict.fromkeys(SCORES, 0.5))])
    write_page(summaries, tmp_path / "board.html")
    page = (tmp_path / "board.html").read_text()
    console = Console(width=WIDTH, record=True)
    console.print(scoreboard_table(summaries))
    table = console.export_text()
    for info in SCORES.values():
        assert escape(f"{info.label}: {info.brief}") in page
        assert not info.column or info.label in table


def test_the_scoreboards_files_have_every_score_by_its_key() -> None:
    keys = {name: info.key or name for name, info in SCORES.items()}
    assert (keys["acc"], keys["anytime_accuracy"]) == ("acc", "anytime")
    assert {*keys.values(), "told"} <= score().model_dump().keys()
    (summary,) = summarise([score(given_boundaries=True)])
    assert summary.to_json()["told"] is True


def test_the_counts_balance_until_a_record_is_unaccounted_for() -> None:
    assert BALANCE == "received = learned + unlabelled + dead-lettered + resident"
    assert SampleCounts(received=8, learned=5, dead_lettered=2, resident=1).unaccounted == 0
    assert SampleCounts(received=9, learned=5, dead_lettered=2, resident=1).unaccounted == 1
    assert SampleCounts(received=9, learned=5, unlabelled=1, dead_lettered=2, resident=1).unaccounted == 0


SHOWING = [
    *sorted(PACKAGE.rglob("*.jinja")),
    *sorted(PACKAGE.rglob("*.js")),
    *sorted((PACKAGE / "report").glob("*.py")),
    *sorted((PACKAGE / "web").glob("*.py")),
    PACKAGE / "observability" / "log.py",
    PACKAGE / "experiments" / "demo" / "display.py",
    *sorted((PACKAGE / "experiments" / "bench").glob("scoreboard*.py")),
]
"""Every template, script and module that shows scores."""


@pytest.mark.parametrize("path", SHOWING, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_place_that_shows_a_score_writes_its_label_out(path: Path) -> None:
    text = path.read_text()
    shown = "\n".join(literals(ast.parse(text))) if path.suffix == ".py" else text
    assert [
        info.label
        for info in SCORES.values()
        if re.search(rf"(?<![\w-]){re.escape(info.label)}(?![\w-])", shown)
    ] == []


def literals(module: ast.Module) -> list[str]:
    """The text of every string in a module that is not documentation."""
    documented = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented
    ]


def test_the_runs_totals_are_exported_by_outcome() -> None:
    totals = [name for name, info in COUNTS.items() if info.total]
    scrape = Scrape()
    assert [scrape.value("run_samples", outcome=name) for name in totals] == [0.0] * len(totals)
