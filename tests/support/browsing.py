"""A page in a browser, with its console messages and requests."""

from typing import Final

from playwright.sync_api import Page, ViewportSize, expect

__all__ = ["PHONE", "Visit", "brightness"]

PHONE: Final[ViewportSize] = {"width": 360, "height": 740}


class Visit:
    """An open page with its figures, and the browser's messages and requests since."""

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
        """Requests to other hosts than the service."""
        return [url for url in self.asked if not url.startswith((self._address, "data:", "blob:"))]

    def colour(self, selector: str, what: str = "color") -> str:
        found: str = self.page.eval_on_selector(selector, f"item => getComputedStyle(item)['{what}']")
        return found


def brightness(colour: str) -> int:
    """Of a CSS colour such as ``rgb(20, 23, 27)``."""
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))
