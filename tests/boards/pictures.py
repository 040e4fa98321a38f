"""Draws the pictures of the documentation: dashboards and live page, the demo's report, an anatomy.

    python -m tests.boards.pictures [--samples N] [--only boards|report|anatomy]

The dashboards and the live page are of a run of the scenario recurring. Needs what `make stack` needs, and
Chromium, node and npm.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import Final, Literal

import httpx
from PIL import Image
from playwright.sync_api import Browser, ViewportSize, sync_playwright

from tests.support.boards import draw
from tests.support.monitoring import dashboards

__all__ = ["main"]

ROOT: Final = Path(__file__).parents[2]
PICTURES: Final = ROOT / "docs" / "pages" / "pictures"
SEGMENTS: Final = 4
COLOURS: Final = 256
"""Colours of a picture: it is a third as large as with all, and thin lines keep theirs."""
FIRST_SCREEN: Final = 1000
"""Height of what is seen without scrolling, which the README shows."""
LIVE_PAGE: Final[ViewportSize] = {"width": 1200, "height": 1150}
REPORT: Final[ViewportSize] = {"width": 1180, "height": 1365}
ANATOMY: Final[ViewportSize] = {"width": 1180, "height": 900}
SURFACES: Final = "The surfaces and the path"
"""The section of an anatomy of which the README shows the figures."""
DEMO_SAMPLES: Final = 10_000
"""Samples of each segment in the demo whose report is drawn."""
EVALUATIONS: Final = 9
"""Of each segment, on the boards."""
ANATOMY_SAMPLES: Final = 1500
"""And in the anatomy, as on its page."""
SETTLE_MS: Final = 1000
THEMES: Final[tuple[Literal["dark", "light"], ...]] = ("dark", "light")


def main() -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(prog="pictures", description="Draw the documentation's pictures.")
    parser.add_argument("--samples", type=int, default=9000, help="samples per segment [%(default)s]")
    parser.add_argument("--only", choices=("boards", "report", "anatomy"), help="draw only these")
    chosen = parser.parse_args()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        if chosen.only in (None, "report"):
            _draw_report(browser, Path(folder))
        if chosen.only in (None, "anatomy"):
            _draw_anatomy(browser, Path(folder))
        if chosen.only in (None, "boards"):
            _draw_run(browser, chosen.samples)
        browser.close()


def _lethe(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "lethe", *arguments], check=True, cwd=ROOT)


def _draw_report(browser: Browser, folder: Path) -> None:
    """Draw the top of the report of a demo."""
    _lethe("demo", "--samples", str(DEMO_SAMPLES), "--report", folder)
    page = browser.new_page(viewport=REPORT, color_scheme="light")
    page.goto((folder / "report.html").as_uri())
    page.locator("#accuracy-0 .main-svg").first.wait_for()
    page.wait_for_timeout(SETTLE_MS)
    _save(page.screenshot(), "report.png")
    page.close()


def _draw_anatomy(browser: Browser, folder: Path) -> None:
    """Draw the surfaces of an anatomy of finetune."""
    arguments = ("--samples", str(ANATOMY_SAMPLES), "--seeds", "1")
    _lethe("anatomy", "--learner", "finetune", *arguments, "--out", folder)
    page = browser.new_page(viewport=ANATOMY, color_scheme="light")
    page.goto((folder / "anatomy.html").as_uri())
    panels = page.locator("section", has_text=SURFACES).first.locator(".panels")
    panels.locator("canvas, .main-svg").first.wait_for()
    page.wait_for_timeout(SETTLE_MS)
    box = panels.bounding_box()
    assert box is not None
    shot = page.screenshot(
        full_page=True,
        clip={"x": box["x"] - 8, "y": box["y"] - 8, "width": box["width"] + 16, "height": box["height"] + 16},
    )
    _save(shot, "anatomy.png")
    page.close()


def _save(shot: bytes, name: str) -> None:
    file = PICTURES / name
    Image.open(BytesIO(shot)).convert("RGB").quantize(COLOURS).save(file, optimize=True)
    print(file)


def _draw_run(browser: Browser, samples: int) -> None:
    """Run the stack until everything is learned, and draw the dashboards and the live page."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "deploy/stack.py", "--dir", folder, "--free-ports"]
        command += ["--samples", str(samples), "--set", "LETHE_LEARNER__THREADS=1"]
        command += ["--set", f"LETHE_EVALUATION__EVERY={samples // EVALUATIONS}"]
        environment = {**os.environ, "LETHE_SCENARIO": "recurring"}
        started = time.time()
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                addresses = _addresses(process)
                _await_end(addresses, SEGMENTS * samples)
                _draw(browser, addresses["prometheus"], started, time.time())
                _draw_page(browser, addresses["finetune"])
            finally:
                process.send_signal(signal.SIGTERM)


def _addresses(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    addresses: dict[str, str] = {}
    for line in process.stdout:
        if line.startswith("streaming;"):
            return addresses
        name, address = line.split()
        addresses[name] = address
    raise SystemExit("the stack did not start")


def _await_end(addresses: dict[str, str], samples: int) -> None:
    """Wait until each service has learned ``samples`` but for a batch that is not full, and is evaluated."""
    for service in ("finetune", "ridge"):
        address = addresses[service]
        while httpx.get(f"{address}/state", timeout=30).json()["samples"]["learned"] < samples - 64:
            time.sleep(1)
    time.sleep(35)  # the rules on the objective are evaluated every 30 seconds


def _draw(browser: Browser, prometheus: str, started: float, ended: float) -> None:
    for board in dashboards():
        for theme in THEMES:
            drawing = draw(browser, board, prometheus, started, ended, theme=theme)
            assert not drawing.complaints, drawing.complaints
            shot = Image.open(BytesIO(drawing.page.screenshot(full_page=True)))
            drawing.page.close()
            file = PICTURES / f"{board['uid'].removeprefix('lethe-')}-{theme}.png"
            picture = shot.convert("RGB").quantize(COLOURS)
            picture.save(file, optimize=True)
            print(file)
            if file.name == "forgetting-dark.png":
                picture.crop((0, 0, picture.width, FIRST_SCREEN)).save(
                    PICTURES / "dashboard.png", optimize=True
                )


def _draw_page(browser: Browser, address: str) -> None:
    """Draw the top of a service's live page."""
    page = browser.new_page(viewport=LIVE_PAGE, color_scheme="light")
    page.goto(address)
    page.locator("#forgetting .main-svg").first.wait_for()
    page.wait_for_timeout(SETTLE_MS)
    _save(page.screenshot(), "page.png")
    page.close()


if __name__ == "__main__":
    main()
