"""Forgetting is measured and shown for a stream without segment names, too, as most streams are."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from prometheus_client.parser import text_string_to_metric_families

from lethe.observability.result import RunResult
from lethe.report.headline import headline
from tests.support.browsing import Visit
from tests.support.components import require
from tests.support.corner_stream import CornerStream, corner_stream

pytestmark = pytest.mark.needs("embedded")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CornerStream]:
    require("embedded")
    with corner_stream(tmp_path_factory.mktemp("unnamed"), named=False) as run:
        run.teach("day", 3200)
        run.teach("night", 3200)
        yield run


def forgetting(run: CornerStream) -> dict[str, float]:
    """Return what Prometheus reads."""
    families = text_string_to_metric_families(run.service.get("/metrics").text)
    return {
        sample.labels["probe"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "lethe_forgetting_ratio"
    }


def test_forgetting_is_exported_and_shown(run: CornerStream) -> None:
    state = run.service.state
    assert (state["segment"], state["scores"]["bwt"], state["scores"]["acc"]) == (None, None, None)
    lost = forgetting(run)
    assert lost["day"] > 0.5, "what the night taught took its place"
    assert lost == state["forgetting_by_probe"]
    assert state["scores"]["forgetting"] == pytest.approx(sum(lost.values()) / len(lost))


@pytest.mark.needs("chromium")
def test_the_page_shows_which_skill_was_forgotten(run: CornerStream, browser: Browser) -> None:
    page = browser.new_page()
    try:
        visit = Visit(page, run.service.address)
        expect(page.locator("#headline")).to_contain_text("finetune forgot day")
        expect(page.locator("#stream")).to_contain_text("segmentnot named in the stream")
        expect(page.locator("#forgetting .main-svg").first).to_be_visible()
        assert visit.complaints == []
    finally:
        page.close()


def test_the_saved_run_has_a_correct_headline(run: CornerStream) -> None:
    reported = forgetting(run)
    run.service.stop()
    result = RunResult.read(run.service.report / "run.json")
    assert (result.segments, result.samples.learned) == ([], 6400)
    assert result.forgetting_by_probe == reported
    assert headline(result).verdict == "finetune forgot day"
