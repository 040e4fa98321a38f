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
        self.seen: list[tuple[int, float]] = []
        self.answers: int | None = None
        self._shortcut = Shortcut(self._app, "/predict", self._answer, 10, token, self._see)

    def _see(self, status: int, seconds: float) -> None:
        self.seen.append((status, seconds))

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

    async def _app(self, _scope: Scope, receive: Receive, send: Send) -> None:
        while not self.received or self.received[-1].get("more_body"):
            self.received.append(await receive())
        if self.answers is not None:
            await send({"type": "http.response.start", "status": self.answers, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    def _answer(self, body: bytes, headers: Headers) -> bytes | None:
        self.asked.append((body, headers))
        return b"{}" if body.startswith(b"image") else None


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


def part(body: bytes, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_that_comes_in_parts_is_answered_when_it_is_whole() -> None:
    way = Way()
    way.request([part(b"im", True), part(b"age", False)])
    assert way.asked == [(b"image", {})]
    assert way.received == []


@pytest.mark.parametrize(
    ("messages", "scope"),
    [
        (WHOLE, {"path": "/state"}),
        (WHOLE, {"method": "GET"}),
        ([part(b"no image", False)], {}),
        ([part(b"no ", True), part(b"image", False)], {}),
        ([{"type": "http.disconnect"}], {}),
        ([part(b"im", True), {"type": "http.disconnect"}], {}),
        ([part(b"image" * 3, True), part(b"image", False)], {}),
        ([part(b"image image image", False)], {}),
    ],
    ids=[
        "another path",
        "another method",
        "no answer",
        "in parts",
        "gone",
        "gone midway",
        "too long in parts",
        "too long",
    ],
)
def test_whatever_else_comes_reaches_the_application_whole(
    messages: list[Message], scope: dict[str, Any]
) -> None:
    way = Way()
    way.request(messages, **scope)
    assert way.received == messages
    assert way.sent == []


@pytest.mark.parametrize("header", [(b"expect", b"100-continue"), (b"content-length", b"11")])
def test_nobody_is_asked_for_a_body_that_the_application_may_refuse(header: tuple[bytes, bytes]) -> None:
    way = Way()
    way.request(WHOLE, headers=[header])
    assert (way.asked, way.received) == ([], WHOLE)


def test_a_body_that_is_late_is_waited_for_by_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcut, "WHOLE_SECONDS", 0.01)
    way = Way()
    way.request(WHOLE, late=0.05)
    assert (way.asked, way.received) == ([], WHOLE)


@pytest.mark.parametrize(
    ("carried", "answered"),
    [
        ([f"Bearer {TOKEN}"], True),
        ([f"bearer {TOKEN}"], False),  # which the application may still take
        (["Bearer a-token-that-is-another-one"], False),
        (["Bearer a-token-that-is-another-one", f"Bearer {TOKEN}"], False),
        ([], False),
    ],
)
def test_who_carries_no_token_is_left_to_the_application(carried: list[str], answered: bool) -> None:
    way = Way(TOKEN)
    way.request(WHOLE, headers=[(b"authorization", one.encode()) for one in carried])
    assert bool(way.asked) is answered
    assert way.received == ([] if answered else WHOLE)


def test_every_request_is_seen_whichever_way_it_went_with_its_status_and_its_time() -> None:
    way = Way()
    way.request(WHOLE)
    way.answers = 422
    way.request([part(b"no image", False)], late=0.02)
    way.request(WHOLE, path="/state")
    assert [status for status, _ in way.seen] == [200, 422]
    assert 0 <= way.seen[0][1] < 5
    assert 0.02 <= way.seen[1][1] < 5


def test_a_request_without_an_answer_is_seen_as_failed() -> None:
    way = Way()
    way.request([{"type": "http.disconnect"}])
    assert [status for status, _ in way.seen] == [500]
