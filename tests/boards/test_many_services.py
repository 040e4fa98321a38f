"""The dashboards of 12 services, and of 20 segments: drawn from made-up metrics."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.boards import Drawing, draw
from tests.support.made_up_metrics import CLASSES, END, STEP, TIMES, Made, serve
from tests.support.monitoring import dashboards

pytestmark = pytest.mark.needs("prometheus", "chromium", "boards")


@pytest.fixture(scope="module", params=[(2, 20), (12, 2)], ids=["20 segments", "12 services"])
def made(request: pytest.FixtureRequest) -> Made:
    return Made(*request.param)


@pytest.fixture(scope="module")
def prometheus(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(made, tmp_path_factory.mktemp("prometheus")) as address:
        yield address


def drawn(browser: Browser, prometheus: str, uid: str) -> Drawing:
    (board,) = (board for board in dashboards() if board["uid"] == uid)
    drawing = draw(browser, board, prometheus, TIMES[0], END, scrape=STEP)
    assert [panel.error for panel in drawing.panels if panel.error] == []
    assert (drawing.complaints, drawing.blank) == ((), ())
    return drawing


def test_each_service_has_a_line_in_sight(browser: Browser, prometheus: str, made: Made) -> None:
    lines = drawn(browser, prometheus, "lethe-overview").text("Services")
    assert [service for service in made.services if service not in lines] == []


def test_vital_signs_show_the_three_worst_services(browser: Browser, prometheus: str, made: Made) -> None:
    board = drawn(browser, prometheus, "lethe-forgetting")
    worst = made.services[:-4:-1] if len(made.services) < 4 else [made.services[n] for n in (11, 9, 7)]
    shown = board.text("Is it forgetting?").split()
    assert [word for word in shown if word in made.services] == worst
    for service in made.services:
        accuracy = board.panel(f"Accuracy on each probe: {service}")
        assert set(made.probes) <= set(accuracy.colours)
        R = f"R after each segment: {service}"
        numbered = tuple(f"{place} {probe}" for place, probe in enumerate(made.probes, start=1))
        assert board.panel(R).headers == ("after segment", *numbered), "in the order of the segments"
        assert numbered[-2] in board.text(R), "the latest segment that has ended is in sight"
        panel = board.page.locator(f'[data-panel="{R}"]')
        edges = [item.bounding_box() for item in (panel, panel.locator("[role=columnheader]").last)]
        ends = [box["x"] + box["width"] for box in edges if box is not None]
        assert ends[1] <= ends[0], "no column is out of sight"


def test_six_skills_and_six_alerts_are_in_sight(browser: Browser, prometheus: str, made: Made) -> None:
    board = drawn(browser, prometheus, "lethe-forgetting")
    firing = len(set(made.forgotten)) + len(made.services)
    for title, most in (("Firing alerts", firing), ("Forgotten now", len(made.forgotten))):
        panel = board.page.locator(f'[data-panel="{title}"]')
        rows = panel.locator("[role=row]")  # the first one is the heading
        boxes = [item.bounding_box() for item in (panel, rows.nth(min(6, most)))]
        ends = [box["y"] + box["height"] for box in boxes if box is not None]
        assert ends[1] <= ends[0], title
    alerts = board.text("Firing alerts")
    assert "critical" not in alerts.partition("warning")[2], "the critical ones first"
    assert alerts.count("critical") == len(set(made.forgotten)), "a line for all probes of a service"
    legend = board.page.locator('[data-panel="Forgetting"] tbody tr').first
    assert made.services[-1] in legend.inner_text(), "the worst is on top of the legend"
    place = board.page.locator('[data-panel="Forgetting"]').bounding_box()
    assert place is not None
    assert place["y"] < 600, "the charts begin on the first screen"


def test_classes_are_in_the_order_of_their_labels(browser: Browser, prometheus: str, made: Made) -> None:
    board = drawn(browser, prometheus, "lethe-forgetting")
    rows = board.page.locator(f'[data-panel="Accuracy by class: {made.services[0]}"] [role=row]')
    names = [text.split("\n")[0].split("\t")[0] for text in rows.all_inner_texts()[1:]]
    assert names == [f"class {label}" for label in range(CLASSES)]
