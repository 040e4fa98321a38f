"""The fast path of /predict answers single images and passes all else on unchanged."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from lethe.web import predict_fast_path
from lethe.web.predict_body import Headers
from lethe.web.predict_fast_path import PredictFastPath

TOKEN = "a-token-that-nobody-guesses"
WHOLE = [{"type": "http.request", "body": b"image", "more_body": False}]


class FastPath:
    """An application that records what it receives, behind a fast path that answers ``b"image"``."""

    def __init__(self, token: str | None = None) -> None:
        self.received: list[Message] = []
        self.sent: list[Message] = []
        self.asked: list[tuple[bytes, Headers]] = []
        self.seen: list[tuple[int, float]] = []
        self.answers: int | None = None
        self._shortcut = PredictFastPath(self._app, "/predict", self._answer, 10, token, self._see)

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


def test_a_request_answered_on_the_fast_path_does_not_reach_the_application() -> None:
    fast_path = FastPath()
    fast_path.request(
        WHOLE, headers=[(b"content-type", b"image/png"), (b"accept", b"*/*"), (b"shape", b"1,8,8")]
    )
    assert fast_path.asked == [(b"image", {"content-type": "image/png", "shape": "1,8,8"})]
    start, body = fast_path.sent
    assert (start["status"], body["body"]) == (200, b"{}")
    assert dict(start["headers"]) == {b"content-type": b"application/json", b"content-length": b"2"}
    assert fast_path.received == []


def test_the_first_of_two_headers_of_a_name_counts() -> None:
    fast_path = FastPath()
    fast_path.request(WHOLE, headers=[(b"dtype", b"uint8"), (b"dtype", b"float32")])
    assert fast_path.asked == [(b"image", {"dtype": "uint8"})]


def part(body: bytes, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_in_parts_is_answered_once_it_is_complete() -> None:
    fast_path = FastPath()
    fast_path.request([part(b"im", True), part(b"age", False)])
    assert fast_path.asked == [(b"image", {})]
    assert fast_path.received == []


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
def test_every_other_request_reaches_the_application_unchanged(
    messages: list[Message], scope: dict[str, Any]
) -> None:
    fast_path = FastPath()
    fast_path.request(messages, **scope)
    assert fast_path.received == messages
    assert fast_path.sent == []


@pytest.mark.parametrize("header", [(b"expect", b"100-continue"), (b"content-length", b"11")])
def test_the_body_is_not_read_if_the_application_could_reject_it(header: tuple[bytes, bytes]) -> None:
    fast_path = FastPath()
    fast_path.request(WHOLE, headers=[header])
    assert (fast_path.asked, fast_path.received) == ([], WHOLE)


def test_a_late_body_is_left_to_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_fast_path, "BODY_SECONDS", 0.01)
    fast_path = FastPath()
    fast_path.request(WHOLE, late=0.05)
    assert (fast_path.asked, fast_path.received) == ([], WHOLE)


@pytest.mark.parametrize(
    ("carried", "answered"),
    [
        ([f"Bearer {TOKEN}"], True),
        ([f"bearer {TOKEN}"], False),  # which the application may accept
        (["Bearer a-token-that-is-another-one"], False),
        (["Bearer a-token-that-is-another-one", f"Bearer {TOKEN}"], False),
        ([], False),
    ],
)
def test_a_request_without_the_token_is_left_to_the_application(carried: list[str], answered: bool) -> None:
    fast_path = FastPath(TOKEN)
    fast_path.request(WHOLE, headers=[(b"authorization", one.encode()) for one in carried])
    assert bool(fast_path.asked) is answered
    assert fast_path.received == ([] if answered else WHOLE)


def test_every_request_is_observed_with_status_and_duration_on_both_paths() -> None:
    fast_path = FastPath()
    fast_path.request(WHOLE)
    fast_path.answers = 422
    fast_path.request([part(b"no image", False)], late=0.02)
    fast_path.request(WHOLE, path="/state")
    assert [status for status, _ in fast_path.seen] == [200, 422]
    assert 0 <= fast_path.seen[0][1] < 5
    assert 0.02 <= fast_path.seen[1][1] < 5


def test_a_request_without_a_response_is_observed_as_failed() -> None:
    fast_path = FastPath()
    fast_path.request([{"type": "http.disconnect"}])
    assert [status for status, _ in fast_path.seen] == [500]
