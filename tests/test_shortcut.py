"""What the short way cannot answer reaches the application as if nobody had looked."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from service.web import shortcut
from service.web.images import Headers
from service.web.shortcut import Shortcut

TOKEN = "a-token-that-nobody-guesses"
WHOLE = [{"type": "http.request", "body": b"image", "more_body": False}]


class Way:
    """An application that only notes what it receives, behind a short way that answers ``b"image"``."""

    def __init__(self, token: str | None = None) -> None:
        self.received: list[Message] = []
        self.sent: list[Message] = []
        self.asked: list[tuple[bytes, Headers]] = []
        self._shortcut = Shortcut(self._app, "/predict", self._answer, token)

    def request(self, messages: Sequence[Message], late: float = 0.0, **scope: Any) -> None:
        """Send it a request, whose ``messages`` come ``late`` seconds after its head."""
        left = list(messages)

        async def receive() -> Message:
            await asyncio.sleep(late)
            return left.pop(0)

        async def send(message: Message) -> None:
            self.sent.append(message)

        whole = {"type": "http", "method": "POST", "path": "/predict", "headers": []} | scope
        asyncio.run(self._shortcut(whole, receive, send))

    async def _app(self, _scope: Scope, receive: Receive, _send: Send) -> None:
        while not self.received or self.received[-1].get("more_body"):
            self.received.append(await receive())

    def _answer(self, body: bytes, headers: Headers) -> bytes | None:
        self.asked.append((body, headers))
        return b"{}" if body == b"image" else None


def test_what_can_be_answered_is_and_the_application_hears_nothing_of_it() -> None:
    way = Way()
    way.request(WHOLE, headers=[(b"content-type", b"image/png"), (b"accept", b"*/*"), (b"shape", b"1,8,8")])
    assert way.asked == [(b"image", {"content-type": "image/png", "shape": "1,8,8"})]
    start, body = way.sent
    assert (start["status"], body["body"]) == (200, b"{}")
    assert dict(start["headers"]) == {b"content-type": b"application/json", b"content-length": b"2"}
    assert way.received == []


def test_of_two_headers_of_a_name_the_first_counts() -> None:
    way = Way()
    way.request(WHOLE, headers=[(b"dtype", b"uint8"), (b"dtype", b"float32")])
    assert way.asked == [(b"image", {"dtype": "uint8"})]


PARTS = [{"type": "http.request", "body": b"im", "more_body": True}, {"type": "http.request", "body": b"age"}]


@pytest.mark.parametrize(
    ("messages", "scope"),
    [
        (WHOLE, {"path": "/state"}),
        (WHOLE, {"method": "GET"}),
        ([{"type": "http.request", "body": b"no image"}], {}),
        ([{"type": "http.disconnect"}], {}),
        (PARTS, {}),
    ],
    ids=["another path", "another method", "no answer", "gone", "in parts"],
)
def test_whatever_else_comes_reaches_the_application_whole(
    messages: list[Message], scope: dict[str, Any]
) -> None:
    way = Way()
    way.request(messages, **scope)
    assert way.received == messages
    assert way.sent == []


def test_a_body_that_is_late_is_waited_for_by_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcut, "WHOLE_SECONDS", 0.01)
    way = Way()
    way.request(WHOLE, late=0.05)
    assert (way.asked, way.received) == ([], WHOLE)


@pytest.mark.parametrize(
    ("carried", "answered"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer {TOKEN}", False),  # which the application may still take
        ("Bearer a-token-that-is-another-one", False),
        (None, False),
    ],
)
def test_who_carries_no_token_is_left_to_the_application(carried: str | None, answered: bool) -> None:
    way = Way(TOKEN)
    way.request(WHOLE, headers=[] if carried is None else [(b"authorization", carried.encode())])
    assert bool(way.asked) is answered
    assert way.received == ([] if answered else WHOLE)
