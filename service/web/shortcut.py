"""The short way to what is asked for most: one image, answered before the framework has a look.

Beside learning, whose data fill the processor's caches, most of what a request costs is to fetch the code
that it runs through. FastAPI's routing, its dependencies and Starlette's middleware came to a quarter
of it.
"""

import asyncio
import hmac
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.web.images import HEADERS, JSON, Headers

__all__ = ["Shortcut"]

WHOLE_SECONDS: Final = 0.1
"""Within which the body of a request has to be there, or the application waits for it."""

_NAMES: Final = {name.encode(): name for name in HEADERS}


class Shortcut:
    """ASGI middleware: whatever ``answer`` has no bytes for goes the long way, to the application.

    ``answer`` is given the body and the headers of a request whose body came whole. With a ``token``,
    so does a request that does not carry it in the usual form.
    """

    def __init__(
        self, app: ASGIApp, path: str, answer: Callable[[bytes, Headers], bytes | None], token: str | None
    ) -> None:
        self._app, self._path, self._answer = app, path, answer
        self._bearer = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] != self._path or not self._allows(scope):
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(WHOLE_SECONDS):
                first: Message | None = await receive()
        except TimeoutError:
            first = None
        if first is not None and first["type"] == "http.request" and not first.get("more_body"):
            # of two of a name, the first counts, as for Starlette
            named = {
                _NAMES[name]: value.decode("latin-1")
                for name, value in reversed(scope["headers"])
                if name in _NAMES
            }
            body = self._answer(first.get("body", b""), named)
            if body is not None:
                await _send(send, body)
                return

        async def again() -> Message:
            nonlocal first
            message, first = first, None
            return await receive() if message is None else message

        await self._app(scope, again, send)

    def _allows(self, scope: Scope) -> bool:
        return scope["method"] == "POST" and (
            self._bearer is None
            or any(
                name == b"authorization" and hmac.compare_digest(value, self._bearer)
                for name, value in scope["headers"]
            )
        )


async def _send(send: Send, body: bytes) -> None:
    head = [(b"content-type", JSON.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})
