"""``lethe watch`` from end to end: metrics, page, state, visits, report."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect

from deploy.kafka.kraft import free_port
from lethe.observability.result import RunResult
from lethe.probeset import save_probe
from tests.support.services import Command
from tests.support.waiting import until
from tests.support.watched import Model, model_server, probes_of, serving


@pytest.fixture
def probes(tmp_path: Path) -> Path:
    for order, probe in enumerate(probes_of("ab")):
        save_probe(probe, tmp_path / "probes", order)
    return tmp_path / "probes"


def test_a_model_that_is_retrained_is_seen_to_forget(probes: Path, tmp_path: Path, browser: Browser) -> None:
    model, port, token = Model("a"), free_port(), "x" * 16
    model.token = "secret"
    (tmp_path / "model").write_text("secret\n")
    (tmp_path / "ours").write_text(token)
    with serving(model_server(model)) as address:
        arguments = ["watch", "--probes", probes, "--url", f"{address}/v2/models/digits/infer"]
        arguments += ["--every", "0.2", "--requests-per-minute", "6000", "--port", port]
        arguments += ["--token-file", tmp_path / "model"]
        arguments += ["--state", tmp_path / "state", "--report", tmp_path / "report"]
        arguments += ["--serve-token-file", tmp_path / "ours"]
        arguments += ["--beside", f"next={tmp_path / 'next' / 'run.json'}"]
        watching = Command([*map(str, arguments)], dict(os.environ), tmp_path / "log")
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {token}"}, timeout=60
        )

        def state() -> dict[str, Any]:
            assert watching.poll() is None, (tmp_path / "log").read_text()
            try:
                found: dict[str, Any] = client.get("/state").json()
            except httpx.TransportError:
                return {}
            return found

        def forgetting() -> dict[str, float]:
            lost: dict[str, float] = state()["forgetting_by_probe"]
            return lost

        until(lambda: state().get("accuracy"), "the first evaluation")
        assert state()["accuracy"] == {"a": 1.0, "b": 0.0}
        assert (state()["source"], state()["learner"]) == ("watched", "digits")
        assert client.get("/readyz").json() == {"detail": "the watched model answers"}
        assert client.post("/visit", json={"segment": "c"}).status_code == 422
        assert httpx.post(f"{client.base_url}/visit", json={"segment": "b"}).status_code == 401
        assert client.post("/visit", json={"segment": "b", "version": "2"}).status_code == 202
        until(lambda: state()["segment"] == "b", "the announced visit")
        model.knows, model.version = "b", "2"
        until(lambda: forgetting().get("a") == 1.0, "the drop", 60)
        metrics = client.get("/metrics").text
        assert 'lethe_forgetting_ratio{probe="a",source="watched"} 1.0' in metrics
        assert 'lethe_target_up{source="watched"} 1.0' in metrics
        assert 'lethe_target_budget_requests{source="watched"} 6000.0' in metrics
        assert 'lethe_target_drops_total{probe="b",source="watched"} 0.0' in metrics
        answered = re.search(
            r'lethe_target_requests_total{outcome="answered",source="watched"} (\S+)', metrics
        )
        timed = re.search(r'lethe_target_request_duration_seconds_count{source="watched"} (\S+)', metrics)
        assert answered is not None
        assert timed is not None
        assert float(answered[1]) == float(timed[1]) >= 9
        model.down = True
        until(lambda: not state()["ready"], "unknown")
        metrics = client.get("/metrics").text
        assert 'lethe_target_up{source="watched"} 0.0' in metrics
        assert 'lethe_target_retries_total{source="watched"} 0.0' not in metrics
        assert state()["accuracy"] == {"a": 0.0, "b": 1.0}
        until(lambda: RunResult.read(tmp_path / "report" / "run.json").unknown, "a result says so")
        model.down = False
        until(lambda: state()["ready"], "known again")
        page = browser.new_page()
        page.goto(f"{client.base_url}/")
        page.fill("#token", token)
        page.keyboard.press("Enter")
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
        other = RunResult.read(tmp_path / "report" / "run.json")
        other.model_copy(update={"forgetting_by_probe": {"a": 0.6}}).write(tmp_path / "next" / "run.json")
        expect(cards.nth(1)).to_contain_text("\N{MINUS SIGN}60.0points below its best: a", timeout=60_000)
        other.model_copy(update={"unknown": "status 503"}).write(tmp_path / "next" / "run.json")
        expect(cards.nth(1)).to_contain_text("unknown: status 503", timeout=60_000)
        page.close()
        watching.send(signal.SIGTERM)
        assert watching.wait(120) == 0, (tmp_path / "log").read_text()
    run = RunResult.read(tmp_path / "report" / "run.json")
    assert (run.source, run.segments[:2], run.forgetting_by_probe["a"]) == ("watched", ["a", "b"], 1.0)
    assert "seconds watched" in (tmp_path / "report" / "report.html").read_text()
    assert json.loads((tmp_path / "state" / "watch.json").read_text())["version"] == "2"


def test_a_number_of_rounds_ends_it(probes: Path, tmp_path: Path) -> None:
    with serving(model_server(Model("a"))) as address:
        arguments = ["watch", "--probes", probes, "--url", f"{address}/invocations", "--protocol", "mlflow"]
        arguments += ["--rounds", "2", "--every", "0.1", "--port", "0", "--report", tmp_path]
        watching = Command([*map(str, arguments)], dict(os.environ), tmp_path / "log")
        assert watching.wait(120) == 0, (tmp_path / "log").read_text()
    assert len(RunResult.read(tmp_path / "run.json").evaluations) == 3  # the first round's counts twice
