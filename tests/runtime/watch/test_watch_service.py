"""``lethe watch`` from end to end: metrics, page, state, visits, report."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from lethe.observability.result import RunResult
from lethe.probeset import save_probe
from tests.support.services import Command
from tests.support.waiting import until
from tests.support.watched import Model, model_server, probes_of, serving
from tests.support.watching import Watching, watching

TOKEN = "x" * 16
"""Of the watching service."""


@pytest.fixture
def probes(tmp_path: Path) -> Path:
    for order, probe in enumerate(probes_of("ab")):
        save_probe(probe, tmp_path / "probes", order)
    return tmp_path / "probes"


@contextmanager
def watched(model: Model, probes: Path, folder: Path) -> Iterator[tuple[Watching, str]]:
    """Watch a model behind a token, and another beside it; yield what watches, and the model's address.

    The first evaluation has ended.
    """
    model.token = "secret"
    (folder / "model").write_text("secret\n")
    (folder / "ours").write_text(TOKEN)
    with serving(model_server(model)) as address:
        arguments = ["--probes", probes, "--url", f"{address}/v2/models/digits/infer"]
        arguments += ["--every", "0.2", "--requests-per-minute", "6000"]
        arguments += ["--token-file", folder / "model", "--serve-token-file", folder / "ours"]
        arguments += ["--state", folder / "state", "--report", folder / "report"]
        arguments += ["--beside", f"next={folder / 'next' / 'run.json'}"]
        with watching(arguments, folder / "log", TOKEN) as started:
            until(lambda: started.state().get("accuracy"), "the first evaluation")
            yield started, address


def retrain(model: Model, started: Watching) -> None:
    model.knows, model.version = "b", "2"
    until(lambda: started.lost("a") == 1.0, "the drop", 60)


def test_a_model_that_is_retrained_is_seen_to_forget(probes: Path, tmp_path: Path) -> None:
    model = Model("a")
    with watched(model, probes, tmp_path) as (started, _):
        state, client = started.state, started.client
        assert state()["accuracy"] == {"a": 1.0, "b": 0.0}
        assert (state()["source"], state()["learner"]) == ("watched", "digits")
        assert client.get("/readyz").json() == {"detail": "the watched model answers"}
        assert client.post("/visit", json={"segment": "c"}).status_code == 422
        assert httpx.post(f"{started.address}/visit", json={"segment": "b"}).status_code == 401
        assert client.post("/visit", json={"segment": "b", "version": "2"}).status_code == 202
        until(lambda: state()["segment"] == "b", "the announced visit")
        retrain(model, started)
        model.down = True
        until(lambda: not state()["ready"], "unknown")
        assert state()["accuracy"] == {"a": 0.0, "b": 1.0}
        until(lambda: RunResult.read(tmp_path / "report" / "run.json").unknown, "a result says so")
        model.down = False
        until(lambda: state()["ready"], "known again")
    run = RunResult.read(tmp_path / "report" / "run.json")
    assert (run.source, run.segments[:2], run.forgetting_by_probe["a"]) == ("watched", ["a", "b"], 1.0)
    assert "seconds watched" in (tmp_path / "report" / "report.html").read_text()
    assert json.loads((tmp_path / "state" / "watch.json").read_text())["version"] == "2"


def test_metrics_are_those_of_a_run_and_of_the_requests(probes: Path, tmp_path: Path) -> None:
    model = Model("a")
    with watched(model, probes, tmp_path) as (started, _):
        metric = started.metric
        retrain(model, started)
        until(lambda: metric("lethe_forgetting_ratio", probe="a") == 1, "the drop is exported")
        assert metric("lethe_target_up") == 1
        assert metric("lethe_target_budget_requests") == 6000
        assert metric("lethe_target_drops_total", probe="b") == 0
        model.down = True
        until(lambda: metric("lethe_target_up") == 0, "the model does not answer")
        until(lambda: metric("lethe_target_requests_total", outcome="failed") >= 1, "a failure is counted")
        assert metric("lethe_target_retries_total") >= 1
        answered = metric("lethe_target_requests_total", outcome="answered")
        assert metric("lethe_target_request_duration_seconds_count") == answered >= 6


def test_the_page_has_a_tile_for_each_model(probes: Path, tmp_path: Path, browser: Browser) -> None:
    model, other = Model("a"), tmp_path / "next" / "run.json"
    with watched(model, probes, tmp_path) as (started, address), browser.new_context() as context:
        page = context.new_page()
        page.goto(started.address)
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        retrain(model, started)
        expect(page.locator("body")).to_contain_text("digits forgot a", timeout=60_000)
        expect(page.locator(".kicker")).to_contain_text(f"model at {address}")
        expect(page.locator("#broker")).to_have_text("the model answers")
        expect(page.locator("#stream")).to_be_hidden()
        cards = page.locator("#models .card")
        expect(cards.locator("h3")).to_have_text(["digits", "next"])
        expect(cards.nth(0)).to_contain_text(re.compile("answers; measured .* ago; 3 requests in the latest"))
        expect(cards.nth(0)).to_contain_text("\N{MINUS SIGN}100.0points below its best: a")
        expect(cards.nth(0).locator("dd").first).to_have_class("bad")
        expect(cards.nth(1)).to_contain_text("unknown: not measured yet")
        result = RunResult.read(tmp_path / "report" / "run.json")
        result.model_copy(update={"forgetting_by_probe": {"a": 0.6}}).write(other)
        expect(cards.nth(1)).to_contain_text("\N{MINUS SIGN}60.0points below its best: a", timeout=60_000)
        result.model_copy(update={"unknown": "status 503"}).write(other)
        expect(cards.nth(1)).to_contain_text("unknown: status 503", timeout=60_000)


def test_a_number_of_rounds_ends_it(probes: Path, tmp_path: Path) -> None:
    with serving(model_server(Model("a"))) as address:
        arguments = ["watch", "--probes", probes, "--url", f"{address}/invocations", "--protocol", "mlflow"]
        arguments += ["--rounds", "2", "--every", "0.1", "--port", "0", "--report", tmp_path]
        watching = Command([*map(str, arguments)], dict(os.environ), tmp_path / "log")
        assert watching.wait(120) == 0, (tmp_path / "log").read_text()
    assert len(RunResult.read(tmp_path / "run.json").evaluations) == 3  # the first round's counts twice
