"""What is forgotten is told of a stream that names no segments, too, as few outside a benchmark do."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from prometheus_client.parser import text_string_to_metric_families

from service.report.words import headline
from service.result import RunResult
from tests.browsing import Visit
from tests.components import require
from tests.corners import Corners, corners

pytestmark = pytest.mark.needs("embedded")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corners]:
    require("embedded")
    with corners(tmp_path_factory.mktemp("unnamed"), named=False) as run:
        run.teach("day", 3200)
        run.teach("night", 3200)
        yield run


def forgetting(run: Corners) -> dict[str, float]:
    """What Prometheus reads."""
    families = text_string_to_metric_families(run.service.get("/metrics").text)
    return {
        sample.labels["probe"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "lethe_forgetting_ratio"
    }


def test_forgetting_is_exported_and_told(run: Corners) -> None:
    state = run.service.state
    assert (state["segment"], state["scores"]["bwt"], state["scores"]["acc"]) == (None, None, None)
    lost = forgetting(run)
    assert lost["day"] > 0.5, "what the night taught took its place"
    assert lost == state["forgetting_by_probe"]
    assert state["scores"]["forgetting"] == pytest.approx(sum(lost.values()) / len(lost))


@pytest.mark.needs("chromium")
def test_the_page_tells_which_skill_was_forgotten(run: Corners, browser: Browser) -> None:
    page = browser.new_page()
    try:
        visit = Visit(page, run.service.address)
        expect(page.locator("#sentence")).to_contain_text("finetune forgot day")
        expect(page.locator("#stream")).to_contain_text("a stream that names no segments")
        expect(page.locator("#forgetting .main-svg").first).to_be_visible()
        assert visit.complaints == []
    finally:
        page.close()


def test_the_run_that_is_left_behind_has_a_true_headline(run: Corners) -> None:
    told = forgetting(run)
    run.service.stop()
    result = RunResult.read(run.service.report / "run.json")
    assert (result.segments, result.samples.learned) == ([], 6400)
    assert result.forgetting_by_probe == told
    assert headline(result).verdict == "finetune forgot day"
