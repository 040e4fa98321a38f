"""The short way to what is asked for most: one image, answered before the framework has a look.

Beside learning, whose data fill the processor's caches, much of what a request costs is to fetch the code
that it runs through. FastAPI's routing, its dependencies and Starlette's middleware are spared here.
"""

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.web.images import HEADERS, JSON, Headers

__all__ = ["Shortcut"]

WHOLE_SECONDS: Final = 0.1
"""Within which the body of a request has to be there, or the application waits for it."""

_NAMES: Final = {name.encode(): name for name in HEADERS}


class Shortcut:
    """ASGI middleware: whatever ``answer`` has no bytes for goes the long way, to the application.

    ``answer`` is given the body and the headers of a POST to ``path`` whose body, of ``most_bytes`` at
    the most, came whole. With a ``token``, so does a request that does not carry it in the usual form.
    ``seen`` is told of each such POST, whichever way it went: the status of its answer, 500 where it got
    none, and the seconds that it took.
    """

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        answer: Callable[[bytes, Headers], bytes | None],
        most_bytes: int,
        token: str | None,
        seen: Callable[[int, float], None],
    ) -> None:
        self._app, self._path, self._answer, self._most_bytes = app, path, answer, most_bytes
        self._seen = seen
        self._bearer = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)  # the first of an answer's messages has it
            await send(message)

        try:
            await self._take(scope, receive, noting)
        finally:
            self._seen(status, time.perf_counter() - started)

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(reversed(scope["headers"]))  # of two of a name, the first counts, as for Starlette
        if not self._allows(headers):
            await self._app(scope, receive, send)
            return
        received = await self._received(receive)
        if received and received[-1]["type"] == "http.request" and not received[-1].get("more_body"):
            named = {_NAMES[name]: headers[name].decode("latin-1") for name in headers.keys() & _NAMES}
            body = b"".join(part.get("body", b"") for part in received)
            answer = self._answer(body, named) if len(body) <= self._most_bytes else None
            if answer is not None:
                await _send(send, answer)
                return

        async def again() -> Message:
            return received.pop(0) if received else await receive()

        await self._app(scope, again, send)

    def _allows(self, headers: Mapping[bytes, bytes]) -> bool:
        """Tell whether to have a look at the body: who expects a refusal before sending it may get one."""
        if b"expect" in headers or int(headers.get(b"content-length", 0)) > self._most_bytes:
            return False
        return self._bearer is None or hmac.compare_digest(headers.get(b"authorization", b""), self._bearer)

    async def _received(self, receive: Receive) -> list[Message]:
        """Return the body's messages, as far as they come in time and are not too long."""
        messages: list[Message] = []
        size = 0
        try:
            async with asyncio.timeout(WHOLE_SECONDS):
                while size <= self._most_bytes:
                    messages.append(message := await receive())
                    size += len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body"):
                        break
        except TimeoutError:
            pass  # the application waits on, and says so when it has waited too long
        return messages


async def _send(send: Send, body: bytes) -> None:
    head = [(b"content-type", JSON.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})
