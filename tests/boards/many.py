"""Draws the dashboards of 1, 2 and 12 services and of 2 and 20 segments, from made-up metrics.

    python -m tests.boards.many [FOLDER]

Needs Prometheus, Chromium, node and npm.
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Final, Literal

from playwright.sync_api import Browser, sync_playwright

from tests.support.boards import draw
from tests.support.made_up_metrics import END, STEP, TIMES, Made, serve
from tests.support.monitoring import dashboards

__all__ = ["main"]

CASES: Final = ((1, 2), (2, 2), (12, 2), (1, 20), (2, 20), (12, 20))
"""Services and segments of each picture."""
LOOKS: Final[tuple[tuple[Literal["dark", "light"], int], ...]] = (("dark", 1600), ("light", 900))
"""Theme and width in pixels."""
BOARDS: Final = ("lethe-overview", "lethe-forgetting")


def main() -> None:
    """Draw each case, wide and dark and narrow and light."""
    parser = argparse.ArgumentParser(prog="many", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("build/many"))
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for services, segments in CASES:
            with (
                tempfile.TemporaryDirectory() as data,
                serve(Made(services, segments), Path(data)) as address,
            ):
                _draw(browser, address, folder, f"{services}-services-{segments}-segments")
        browser.close()


def _draw(browser: Browser, prometheus: str, folder: Path, name: str) -> None:
    for board in dashboards():
        if board["uid"] not in BOARDS:
            continue
        for theme, width in LOOKS:
            drawing = draw(browser, board, prometheus, TIMES[0], END, scrape=STEP, theme=theme, width=width)
            file = folder / f"{board['uid'].removeprefix('lethe-')}-{name}-{theme}-{width}.png"
            drawing.page.screenshot(path=file, full_page=True)
            drawing.page.close()
            print(file)


if __name__ == "__main__":
    main()
