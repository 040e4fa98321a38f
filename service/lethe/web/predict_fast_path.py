"""Fast path of ``POST /predict``: a single image is answered before the request reaches FastAPI.

While learning fills the processor's caches, much of the cost of a request is to load the code that handles
it. The fast path skips FastAPI's routing and dependencies and Starlette's middleware.
"""

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lethe.web.predict_body import HEADERS, JSON, Headers

__all__ = ["PredictFastPath"]

BODY_SECONDS: Final = 0.1
"""Time limit for the body of a request; later ones are left to the application."""

_NAMES: Final = {name.encode(): name for name in HEADERS}


class PredictFastPath:
    """ASGI middleware that responds to the requests that ``respond`` can answer, and passes on all others.

    ``respond`` is given the body and the headers of a POST to ``path`` with a complete body of at most
    ``max_bytes``, and returns the JSON of the response or None. With a ``token``, requests without it in the
    usual form are passed on. ``observe`` is called for each POST to ``path``, passed on or not, with the
    status of its response, 500 if it got none, and the seconds that it took.
    """

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        respond: Callable[[bytes, Headers], bytes | None],
        max_bytes: int,
        token: str | None,
        observe: Callable[[int, float], None],
    ) -> None:
        self._app, self._path, self._respond, self._max_bytes = app, path, respond, max_bytes
        self._observe = observe
        self._bearer = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def send_observed(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)  # in the first message of a response
            await send(message)

        try:
            await self._handle(scope, receive, send_observed)
        finally:
            self._observe(status, time.perf_counter() - started)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        # of several headers of a name the first counts, as in Starlette
        headers = dict(reversed(scope["headers"]))
        if not self._may_read(headers):
            await self._app(scope, receive, send)
            return
        received = await self._receive(receive)
        if received and received[-1]["type"] == "http.request" and not received[-1].get("more_body"):
            named = {_NAMES[name]: headers[name].decode("latin-1") for name in headers.keys() & _NAMES}
            body = b"".join(part.get("body", b"") for part in received)
            response = self._respond(body, named) if len(body) <= self._max_bytes else None
            if response is not None:
                await _send(send, response)
                return

        async def replay() -> Message:
            return received.pop(0) if received else await receive()

        await self._app(scope, replay, send)

    def _may_read(self, headers: Mapping[bytes, bytes]) -> bool:
        """Return whether to read the body; a client that expects `100 Continue` may be rejected without
        sending it."""
        if b"expect" in headers or int(headers.get(b"content-length", 0)) > self._max_bytes:
            return False
        return self._bearer is None or hmac.compare_digest(headers.get(b"authorization", b""), self._bearer)

    async def _receive(self, receive: Receive) -> list[Message]:
        """Return the messages of the body that arrive in time, up to the maximum length."""
        messages: list[Message] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while size <= self._max_bytes:
                    messages.append(message := await receive())
                    size += len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body"):
                        break
        except TimeoutError:
            pass  # the application continues to wait, and responds 408 in the end
        return messages


async def _send(send: Send, body: bytes) -> None:
    head = [(b"content-type", JSON.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})
