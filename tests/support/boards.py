"""Dashboards drawn in Chromium with Grafana's libraries: the program of tests/boards, built on demand.

``python -m tests.support.boards`` builds it, which takes a minute the first time.
"""

import hashlib
import json
import mimetypes
import shutil
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlencode, urlsplit

from playwright.sync_api import Browser, Page, Route

__all__ = ["Drawing", "Panel", "build_program", "defects", "draw"]

ROOT: Final = Path(__file__).parents[2]
SOURCE: Final = ROOT / "tests" / "boards"
BUILT: Final = ROOT / "build" / "boards"
"""Packages and bundle; not part of the repository."""
SETTLE_MS: Final = 300
BLANK: Final = """panels => panels.filter(panel => {
  const canvases = [...panel.querySelectorAll('canvas')].filter(canvas => canvas.width && canvas.height);
  const pixels = canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  return canvases.length && canvases.every(canvas => !pixels(canvas).some((v, i) => i % 4 === 3 && v));
}).map(panel => panel.dataset.panel)"""


@dataclass(frozen=True)
class Panel:
    """What a panel shows."""

    title: str
    type: str
    points: int
    headers: tuple[str, ...]
    """Headings of a table, from left to right."""
    colours: Mapping[str, str]
    """The colour of each curve of a chart."""
    error: str
    """Why it cannot be drawn; empty if it can."""


@dataclass(frozen=True)
class Drawing:
    """A drawn dashboard; ``page`` is open."""

    panels: tuple[Panel, ...]
    complaints: tuple[str, ...]
    """What the browser said."""
    blank: tuple[str, ...]
    """Panels with a canvas on which nothing is drawn."""
    page: Page

    def panel(self, title: str) -> Panel:
        (found,) = (panel for panel in self.panels if panel.title == title)
        return found

    def text(self, title: str) -> str:
        """The words and numbers of a panel."""
        return self.page.locator(f'[data-panel="{title}"]').first.inner_text()


def build_program() -> Path:
    """Install the pinned packages and bundle the program, unless that is done; return the folder with it.

    Raises CalledProcessError with npm's or esbuild's output.
    """
    sources = sorted(path for path in SOURCE.rglob("*") if path.is_file() and path.suffix != ".py")
    packages = BUILT / _digest(SOURCE / "package.json", SOURCE / "package-lock.json")
    if not (packages / ".complete").exists():
        packages.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SOURCE / name, packages / name)
        _run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(packages))
        (packages / ".complete").touch()
    site = BUILT / f"site-{_digest(*sources)}"
    if not (site / "index.html").exists():  # copied last
        site.mkdir(parents=True, exist_ok=True)
        _run("node", str(SOURCE / "build.mjs"), str(packages / "node_modules"), str(site))
    return site


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)


def draw(
    browser: Browser,
    board: Mapping[str, Any],
    prometheus: str,
    start: float,
    end: float,
    *,
    scrape: float = 5,
    theme: Literal["dark", "light"] = "dark",
    width: int = 1600,
    scale: float = 1,
) -> Drawing:
    """Draw ``board`` with the data of ``prometheus`` from ``start`` to ``end``, in seconds since 1970."""
    site = build_program()
    page = browser.new_page(viewport={"width": width, "height": 1000}, device_scale_factor=scale)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: said.append(str(error)))

    def answer(route: Route) -> None:
        name = urlsplit(route.request.url).path.removeprefix("/board/")
        if name == "board.json":
            route.fulfill(body=json.dumps(board), content_type="application/json")
        elif (site / name).is_file():
            route.fulfill(path=site / name, content_type=mimetypes.guess_type(name)[0])
        else:
            route.fulfill(status=404)

    page.clock.set_fixed_time(end)  # for what is shown as so long ago
    page.route(f"{prometheus}/board/**", answer)  # from Prometheus' own address, which may be asked then
    asked = {"prometheus": prometheus, "from": start, "to": end, "scrape": scrape, "theme": theme}
    page.goto(f"{prometheus}/board/index.html?{urlencode(asked)}")
    page.wait_for_function("window.drawn", timeout=60_000)
    page.wait_for_timeout(SETTLE_MS)
    found = page.evaluate("window.drawn")
    blank = page.locator("[data-panel]").evaluate_all(BLANK)
    return Drawing(tuple(map(_panel, found)), tuple(said), tuple(blank), page)


def _panel(said: Mapping[str, Any]) -> Panel:
    return Panel(
        title=said["title"],
        type=said["type"],
        points=said.get("points", 0),
        headers=tuple(said.get("headers", ())),
        colours={series["name"]: series["colour"] for series in said.get("series", ())},
        error=said.get("error", ""),
    )


def defects(drawing: Drawing, empty: Collection[str], headers: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return what is wrong with a drawing.

    Panels titled as one of ``empty`` are to have no data, and all others some. ``headers`` gives the
    headings of each table, by its title up to a colon.
    """
    found = [f"the browser says {said}" for said in drawing.complaints]
    found += [f"{title} is blank" for title in drawing.blank]
    for panel in drawing.panels:
        name = panel.title.split(":")[0]
        if panel.error:
            found.append(f"{panel.title}: {panel.error}")
        elif (panel.points == 0) != (name in empty):
            found.append(f"{panel.title} has {panel.points} values")
        elif panel.type == "table" and panel.points and panel.headers != headers[name]:
            found.append(f"{panel.title} has the columns {', '.join(panel.headers)}")
    return found


if __name__ == "__main__":
    print(build_program())
