"""Draws the dashboards and the live page for the documentation, from a run of the scenario recurring.

    python -m tests.boards.pictures [--samples N]

Needs what `make stack` needs, and Chromium, node and npm.
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
SETTLE_MS: Final = 1000
THEMES: Final[tuple[Literal["dark", "light"], ...]] = ("dark", "light")


def main() -> None:
    """Run the stack, wait until everything is learned, and write the pictures."""
    parser = argparse.ArgumentParser(prog="pictures", description="Draw the documentation's dashboards.")
    parser.add_argument("--samples", type=int, default=9000, help="samples per segment [%(default)s]")
    samples = parser.parse_args().samples
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "deploy/stack.py", "--dir", folder, "--free-ports"]
        command += ["--samples", str(samples), "--set", "LETHE_LEARNER__THREADS=1"]
        environment = {**os.environ, "LETHE_SCENARIO": "recurring"}
        started = time.time()
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                addresses = _addresses(process)
                _await_end(addresses, SEGMENTS * samples)
                with sync_playwright() as playwright:
                    browser = playwright.chromium.launch(
                        executable_path=shutil.which("chromium"), args=["--no-sandbox"]
                    )
                    _draw(browser, addresses["prometheus"], started, time.time())
                    _draw_page(browser, addresses["finetune"])
                    browser.close()
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
    shot = Image.open(BytesIO(page.screenshot()))
    page.close()
    file = PICTURES / "page.png"
    shot.convert("RGB").save(file, optimize=True)
    print(file)


if __name__ == "__main__":
    main()
