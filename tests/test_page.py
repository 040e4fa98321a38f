"""Whoever opens the live page sees what is forgotten, while it is, on any screen, from this service alone."""

import re
from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from service.prediction import Predictions, Snapshots
from service.web.server import Server
from tests.browsing import PHONE, Visit, brightness
from tests.components import require
from tests.corners import Corners, corners
from tests.test_predict import LAYOUT, LEARNER, TOKEN, create

pytestmark = pytest.mark.needs("chromium", "embedded")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corners]:
    require("embedded")
    with corners(tmp_path_factory.mktemp("page")) as run:
        run.teach("day", 3200)
        yield run


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    yield page
    page.close()


def test_the_page_shows_the_run_and_asks_nobody_but_the_service(run: Corners, page: Page) -> None:
    visit = Visit(page, run.service.address)
    expect(page.locator("#connection")).to_have_text("live")
    for chart in ("accuracy", "prequential", "calibration"):
        expect(page.locator(f"#{chart} .main-svg").first).to_be_visible()
    expect(page.locator("#sentence")).to_contain_text("finetune is learning day")
    expect(page.locator("#legend li")).to_have_text(["day", "night"])
    expect(page.locator("#classes .panel").nth(1).locator(".main-svg").first).to_be_visible()
    expect(page.locator("#classes figcaption")).to_have_text(["day", "night"])
    expect(page.locator("#stream")).to_contain_text("learned and discarded3\u202f200")
    expect(page.locator("#privacy")).to_contain_text("receipts in the ledger")
    expect(page.locator("#privacy")).to_contain_text("samples of before that it holds0")
    scores = page.locator("#scores .glance > div")
    expect(scores).to_have_count(11)
    expect(scores.nth(0)).to_contain_text(re.compile(r"^ACCmean accuracy .*\d\d\.\d\u202f%$"))
    expect(scores.nth(4)).to_contain_text(re.compile(r"^min-ACC.*–$"))
    assert visit.asked
    assert visit.strangers == []
    assert visit.complaints == []


def test_what_happens_appears_without_reloading(run: Corners, page: Page) -> None:
    visit = Visit(page, run.service.address)
    rows = page.locator("#matrix tbody tr")
    before, learned = rows.count(), page.locator("#stream").inner_text()
    run.teach("night", 3200)
    expect(page.locator("#sentence")).to_contain_text("forgot day")
    expect(rows).to_have_count(before + 1)
    expect(page.locator("#forgetting .main-svg").first).to_be_visible()
    expect(page.locator("#scores .glance > div").nth(4)).to_contain_text(re.compile(r"^min-ACC.*%$"))
    expect(page.locator("#accuracy .annotation-text")).to_have_text(["day", "night"])
    expect(page.locator("#stream")).not_to_have_text(learned)
    assert page.title().startswith("finetune forgot day")
    assert page.evaluate("performance.getEntriesByType('navigation').length") == 1
    assert visit.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_the_reader_s_theme(
    run: Corners, browser: Browser, scheme: Literal["light", "dark"]
) -> None:
    page = browser.new_page(viewport=PHONE, color_scheme=scheme, device_scale_factor=2, has_touch=True)
    try:
        visit = Visit(page, run.service.address)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        paper, ink = visit.colour("body", "background-color"), visit.colour("body")
        tick = visit.colour("#accuracy .xtick text", "fill")
        assert (brightness(paper) > brightness(ink)) == (scheme == "light")
        assert (brightness(paper) > brightness(tick)) == (scheme == "light")
        assert visit.complaints == []
    finally:
        page.close()


def test_the_theme_changes_without_reloading(run: Corners, page: Page) -> None:
    visit = Visit(page, run.service.address)
    page.emulate_media(color_scheme="light")
    light = visit.colour("#accuracy .xtick text", "fill")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        "light => getComputedStyle(document.querySelector('#accuracy .xtick text')).fill !== light", arg=light
    )


def test_a_service_that_is_gone_is_said_to_be_gone(run: Corners, page: Page) -> None:
    Visit(page, run.service.address)
    assert run.service.stop() < 5
    expect(page.locator("#connection")).to_have_text("not connected")
    expect(page.locator("body")).to_have_class("stale")


def test_behind_a_token_the_page_asks_for_it(page: Page) -> None:
    with (
        Predictions(Snapshots(LEARNER), LAYOUT) as predictions,
        Server(create(predictions, TOKEN), "127.0.0.1", 0) as server,
    ):
        page.goto(server.address)
        expect(page.locator("#ask")).to_be_visible()
        page.fill("#token", "wrong")
        page.click("#ask button")
        expect(page.locator("#connection")).to_have_text("not connected")
        expect(page.locator("#ask")).to_be_visible()
        page.fill("#token", TOKEN)
        page.click("#ask button")
        expect(page.locator("#connection")).to_have_text("live")
        expect(page.locator("#sentence")).to_contain_text("waits for its first sample")
