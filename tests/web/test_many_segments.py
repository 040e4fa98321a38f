"""The live page of a run of 20 segments can be read, on any screen."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from playwright.sync_api import Browser, Page, expect

from lethe.evaluation.history import History
from lethe.events import Event, SegmentStarted
from lethe.web.prediction_worker import PredictionWorker
from lethe.web.predictor_snapshots import PredictorSnapshots
from lethe.web.server import Server
from tests.support.browsing import PHONE, Visit
from tests.support.predicting import LAYOUT, LEARNER, create
from tests.support.reports import course

pytestmark = pytest.mark.needs("chromium")

SEGMENTS = [f"permuted-{number}" for number in range(20)]


@pytest.fixture(scope="module")
def history() -> History:
    return course("finetune", 0.9, segments=SEGMENTS)


@pytest.fixture(scope="module")
def address(history: History) -> Iterator[str]:
    latest = history.latest()
    assert latest is not None
    events: list[Event] = [SegmentStarted(SEGMENTS[-1], 20, history.switches[-1].samples), latest]
    with (
        PredictionWorker(PredictorSnapshots(LEARNER), LAYOUT) as predictions,
        Server(create(predictions, events=events, history=history), "127.0.0.1", 0) as server,
    ):
        yield server.address


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1600, "height": 900})
    yield page
    page.close()


def numbers(page: Page) -> list[int]:
    """The numbers of segments that are in sight, on the bar."""
    shown = page.locator("#accuracy .annotation:visible")
    expect(shown.first).to_be_visible()
    return [int(text) for text in shown.all_text_contents()]


def test_each_probe_is_a_row_above_the_bar_of_segments(address: str, page: Page) -> None:
    visit = Visit(page, address)
    ticks = page.locator("#accuracy .ytick text")
    expect(ticks).to_have_count(20)
    heights = ticks.evaluate_all("all => all.map(t => [t.getBoundingClientRect().top, t.textContent.trim()])")
    assert [name for _, name in sorted(heights)] == SEGMENTS, "from the top down"
    bars = page.locator("#accuracy .bars .point")
    expect(bars).to_have_count(20)
    assert numbers(page) == list(range(1, 21))
    expect(page.locator(".scale").first).to_be_visible()
    expect(page.locator("#legend")).not_to_be_visible()
    expect(page.locator("#classes .panel")).to_have_count(1)
    assert visit.complaints == []


def test_the_matrix_fits_the_page_and_has_the_order_of_the_segments(address: str, page: Page) -> None:
    Visit(page, address)
    expect(page.locator("#matrix thead th")).to_have_text(["after segment", *SEGMENTS])
    scrolled = page.eval_on_selector("#matrix .scroll", "box => box.scrollWidth - box.clientWidth")
    assert scrolled == 0


def test_it_fits_a_phone(address: str, browser: Browser) -> None:
    page = browser.new_page(viewport=PHONE)
    try:
        visit = Visit(page, address)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        expect(page.locator("#accuracy .ytick text")).to_have_count(20)
        assert numbers(page)[:9] == list(range(1, 10))
        assert len(numbers(page)) >= 14, "above 9, at least every second one"
        boxes = page.locator("#accuracy .annotation:visible text").evaluate_all(
            "all => all.map(one => one.getBoundingClientRect()).map(box => [box.left, box.right])"
        )
        assert all(right < left for (_, right), (left, _) in pairwise(sorted(boxes))), "none overlap"
        assert visit.complaints == []
    finally:
        page.close()


def test_the_page_begins_with_the_signs_of_the_dashboards(address: str, page: Page) -> None:
    Visit(page, address)
    signs = page.locator("[data-sign]")
    expect(signs.locator("b")).to_have_text(
        ["Is it forgetting?", "Forgetting budget left", "Is it learning?"]
    )
    expect(signs.nth(0).locator("dd")).to_have_class("bad")
    expect(signs.nth(1)).to_contain_text("the budget is 7.2\u202fh in 30 days")
    expect(signs.nth(2)).to_contain_text("guessing gives 10.0\u202f%")
