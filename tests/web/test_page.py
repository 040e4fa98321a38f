"""The live page shows the run as it goes, on any screen, and loads from the service alone."""

import re
from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from lethe.events import PrivacySpent
from lethe.web.prediction_worker import PredictionWorker
from lethe.web.predictor_snapshots import PredictorSnapshots
from lethe.web.server import Server
from tests.support.browsing import PHONE, Visit, brightness
from tests.support.components import require
from tests.support.corner_stream import CornerStream, corner_stream
from tests.support.predicting import LAYOUT, LEARNER, TOKEN, create

pytestmark = pytest.mark.needs("chromium", "embedded")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CornerStream]:
    require("embedded")
    with corner_stream(tmp_path_factory.mktemp("page")) as run:
        run.teach("day", 3200)
        yield run


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    yield page
    page.close()


def test_the_page_shows_the_run_and_sends_requests_only_to_the_service(run: CornerStream, page: Page) -> None:
    visit = Visit(page, run.service.address)
    expect(page.locator("#connection")).to_have_text("live")
    for chart in ("accuracy", "prequential", "calibration"):
        expect(page.locator(f"#{chart} .main-svg").first).to_be_visible()
    expect(page.locator("#headline")).to_contain_text("finetune is learning day")
    expect(page.locator("#legend li")).to_have_text(["day", "night"])
    expect(page.locator("#classes .panel").nth(1).locator(".main-svg").first).to_be_visible()
    expect(page.locator("#classes figcaption")).to_have_text(["day", "night"])
    expect(page.locator("#stream")).to_contain_text("learned and discarded3\u202f200")
    expect(page.locator("#privacy")).to_contain_text("receipts in the ledger")
    expect(page.locator("#privacy")).to_contain_text("samples in the learner's memory0")
    scores = page.locator("#scores .glance > div")
    expect(scores).to_have_count(11)
    expect(scores.nth(0)).to_contain_text(re.compile(r"^ACCmean accuracy .*\d\d\.\d\u202f%$"))
    expect(scores.nth(4)).to_contain_text(re.compile(r"^min-ACC.*–$"))
    assert visit.asked
    assert visit.strangers == []
    assert visit.complaints == []


def test_the_page_updates_without_reloading(run: CornerStream, page: Page) -> None:
    visit = Visit(page, run.service.address)
    rows = page.locator("#matrix tbody tr")
    expect(rows).not_to_have_count(0)
    before, learned = rows.count(), page.locator("#stream").inner_text()
    run.teach("night", 3200)
    expect(page.locator("#headline")).to_contain_text("forgot day")
    expect(rows).to_have_count(before + 1)
    expect(page.locator("#forgetting .main-svg").first).to_be_visible()
    expect(page.locator("#scores .glance > div").nth(4)).to_contain_text(re.compile(r"^min-ACC.*%$"))
    expect(page.locator("#accuracy .bartext")).to_have_text(["day", "night"])
    expect(page.locator("#prequential .annotation-text")).to_have_text(["day", "night"])
    expect(page.locator("[data-sign]").nth(0)).to_contain_text("day")
    expect(page.locator("#stream")).not_to_have_text(learned)
    assert page.title().startswith("finetune forgot day")
    assert page.evaluate("performance.getEntriesByType('navigation').length") == 1
    assert visit.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_in_the_readers_theme(
    run: CornerStream, browser: Browser, scheme: Literal["light", "dark"]
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


def test_the_theme_changes_without_reloading(run: CornerStream, page: Page) -> None:
    visit = Visit(page, run.service.address)
    page.emulate_media(color_scheme="light")
    light = visit.colour("#accuracy .xtick text", "fill")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        "light => getComputedStyle(document.querySelector('#accuracy .xtick text')).fill !== light", arg=light
    )


def test_the_page_says_that_the_service_is_gone(run: CornerStream, page: Page) -> None:
    Visit(page, run.service.address)
    run.service.stop()
    expect(page.locator("#connection")).to_have_text("not connected")
    expect(page.locator("body")).to_have_class("stale")


def test_the_page_asks_for_the_token(page: Page) -> None:
    with (
        PredictionWorker(PredictorSnapshots(LEARNER), LAYOUT) as predictions,
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
        expect(page.locator("#headline")).to_contain_text("is waiting for its first sample")


@pytest.mark.parametrize(
    ("simulated", "shown"),
    [
        (False, "ε = 2.50 of 8, δ = 0.00001"),
        (True, "none: seeded noise gives no privacy (simulated ε = 2.50)"),
    ],
)
def test_an_epsilon_is_shown_as_such_only_if_the_noise_is_secret(
    simulated: bool, shown: str, page: Page
) -> None:
    spent = PrivacySpent(2.5, 1e-5, 8.0, spent=False, simulated=simulated)
    with (
        PredictionWorker(PredictorSnapshots(LEARNER), LAYOUT) as predictions,
        Server(create(predictions, events=[spent]), "127.0.0.1", 0) as server,
    ):
        page.goto(server.address)
        expect(page.locator("#privacy")).to_contain_text(f"privacy budget spent{shown}")
