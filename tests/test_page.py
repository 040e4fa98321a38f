"""Whoever opens the live page sees what is forgotten, while it is, on any screen, from this service alone.

The report of a finished run is drawn by the same script, and is looked at here, too.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from service.prediction import Predictions, Snapshots
from service.probeset import ProbeSet, save_probe
from service.report import write_report
from service.stream.embedded import EmbeddedBroker
from service.web.server import Server
from service.wire import Labels, Pixels, Sample, encode
from tests.brokers import StreamBroker, of_embedded
from tests.components import require
from tests.reports import demo
from tests.services import Service, service, until
from tests.streams import send
from tests.test_predict import LAYOUT, LEARNER, TOKEN, create

pytestmark = pytest.mark.needs("chromium", "embedded")

TOPIC = "corners"
TURNED = {"day": 0, "night": 1}
"""Segments: in each, a bright corner means the class of the next one."""
PHONE: ViewportSize = {"width": 360, "height": 740}


def images(segment: str, count: int, seed: int) -> tuple[Pixels, Labels]:
    """Images with a bright corner each."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 4, count)
    x_NCHW = rng.integers(0, 90, (count, 1, 8, 8), np.uint8)
    for x_HW, corner in zip(x_NCHW[:, 0], corners, strict=True):
        top, left = 4 * (corner // 2), 4 * (corner % 2)
        x_HW[top : top + 4, left : left + 4] += 150
    return x_NCHW, (corners + TURNED[segment]) % 4


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    require("chromium")
    with sync_playwright() as playwright:
        expect.set_options(timeout=20_000)  # milliseconds: the machine may be busy
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


class Run:
    """A service that learns corners, as many as it is sent."""

    def __init__(self, broker: StreamBroker, service: Service) -> None:
        self._broker, self.service = broker, service
        self.sent = 0

    def teach(self, segment: str, count: int) -> None:
        """Send samples of a segment and wait until they are learned."""
        x_NCHW, y_N = images(segment, count, self.sent)
        records = [(0, *encode(Sample(x, int(y), segment))) for x, y in zip(x_NCHW, y_N, strict=True)]
        send(self._broker, TOPIC, records)
        self.sent += count
        until(lambda: self.service.state["samples"]["learned"] == self.sent, "all is learned")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    require("embedded")
    folder = tmp_path_factory.mktemp("page")
    for order, segment in enumerate(TURNED):
        x_NCHW, y_N = images(segment, 200, seed=99)
        save_probe(
            ProbeSet(segment, x_NCHW, y_N, "drawn for this test", "synthetic"), folder / "probes", order
        )
    settings = {
        "EVALUATION__PROBES": folder / "probes",
        "EVALUATION__EVERY": 320,
        "SAMPLE__HEIGHT": 8,
        "SAMPLE__WIDTH": 8,
        "SAMPLE__CLASSES": 4,
        "CHECKPOINT__FOLDER": folder / "state",
    }
    with EmbeddedBroker() as broker:
        broker.create_topic(TOPIC, 1)
        with service(of_embedded(broker), TOPIC, folder, **settings) as running:
            run = Run(of_embedded(broker), running)
            run.teach("day", 3200)
            yield run


class Visit:
    """An open page with its figures, and what the browser said and asked for since."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self._address = page, address
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda said: self.complaints.append(said.text) if said.type != "log" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(address)
        expect(page.locator("[id^=accuracy] .main-svg").first).to_be_visible()

    @property
    def strangers(self) -> list[str]:
        """Requests to anybody but the service."""
        return [url for url in self.asked if not url.startswith((self._address, "data:", "blob:"))]

    def colour(self, selector: str, what: str = "color") -> str:
        found: str = self.page.eval_on_selector(selector, f"item => getComputedStyle(item)['{what}']")
        return found


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    yield page
    page.close()


def test_the_page_shows_the_run_and_asks_nobody_but_the_service(run: Run, page: Page) -> None:
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
    assert visit.asked
    assert visit.strangers == []
    assert visit.complaints == []


def test_what_happens_appears_without_reloading(run: Run, page: Page) -> None:
    visit = Visit(page, run.service.address)
    rows = page.locator("#matrix tbody tr")
    before, learned = rows.count(), page.locator("#stream").inner_text()
    run.teach("night", 3200)
    expect(page.locator("#sentence")).to_contain_text("forgot day")
    expect(rows).to_have_count(before + 1)
    expect(page.locator("#forgetting .main-svg").first).to_be_visible()
    expect(page.locator("#accuracy .annotation-text")).to_have_text(["day", "night"])
    expect(page.locator("#stream")).not_to_have_text(learned)
    assert page.title().startswith("finetune forgot day")
    assert page.evaluate("performance.getEntriesByType('navigation').length") == 1
    assert visit.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_the_reader_s_theme(
    run: Run, browser: Browser, scheme: Literal["light", "dark"]
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_is_drawn_in_the_reader_s_theme_and_fits_a_phone(
    browser: Browser, tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    write_report(demo(), tmp_path / "report.html")
    page = browser.new_page(viewport=PHONE, color_scheme=scheme)
    try:
        visit = Visit(page, (tmp_path / "report.html").as_uri())
        expect(page.locator(".plot:not(:has(.main-svg))")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        paper, tick = visit.colour("body", "background-color"), visit.colour(".xtick text", "fill")
        assert (brightness(paper) > brightness(tick)) == (scheme == "light")
        assert (visit.strangers, visit.complaints) == ([], [])
    finally:
        page.close()


def brightness(colour: str) -> int:
    """Of a CSS colour such as ``rgb(20, 23, 27)``."""
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))


def test_the_theme_changes_without_reloading(run: Run, page: Page) -> None:
    visit = Visit(page, run.service.address)
    page.emulate_media(color_scheme="light")
    light = visit.colour("#accuracy .xtick text", "fill")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        "light => getComputedStyle(document.querySelector('#accuracy .xtick text')).fill !== light", arg=light
    )


def test_a_service_that_is_gone_is_said_to_be_gone(run: Run, page: Page) -> None:
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
