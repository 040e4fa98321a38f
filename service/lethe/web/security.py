"""Security middleware: checks the Host header, adds security headers and sends long bodies in slices.

In a DNS rebinding attack, a browser requests this service under the attacker's host name, whose page may then
read the response. Such a request carries that name in its Host header. A literal address cannot be rebound.

A long body is passed on slice by slice, each after the one before was sent: a client that does not read takes
the memory of one slice, however long the body is.
"""

import ipaddress
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["ANY", "SLICE", "AllowedHosts", "SecurityMiddleware"]

ANY: Final = "*"
"""As a name, matches every host: for a service behind a proxy that checks it."""
SLICE: Final = 16 * 1024
"""Bytes of a body that are passed on at a time."""

_HEADERS: Final = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
}
"""Headers of every response that does not set its own."""


class AllowedHosts:
    """The host names that a request may name; ``localhost`` and literal addresses are always allowed.

    A name that begins with a dot matches all of its subdomains, `ANY` matches every name.
    """

    def __init__(self, names: Collection[str] = ()) -> None:
        known = {"localhost", *(name.lower().rstrip(".") for name in names)}
        self._any = ANY in known
        self._suffixes = tuple(name for name in known if name.startswith("."))
        self._names = known
        self.allows = lru_cache(256)(self._allows)

    def _allows(self, header: bytes) -> bool:
        """Return whether a request with this Host header may be answered."""
        if self._any:
            return True
        host = _without_port(header.decode("latin-1").strip().lower()).rstrip(".")
        return host in self._names or host.endswith(self._suffixes) or _is_address(host)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class SecurityMiddleware:
    """ASGI middleware around the whole application.

    ``on_rejected`` is called for each request that names a host not allowed.
    """

    def __init__(self, app: ASGIApp, hosts: AllowedHosts, on_rejected: Callable[[], None]) -> None:
        self._app, self._hosts, self._on_rejected = app, hosts, on_rejected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send({**message, "headers": _completed(message["headers"])})
            elif len(message.get("body", b"")) > SLICE:
                await _send_slices(send, message)
            else:
                await send(message)

        named = [value for name, value in scope["headers"] if name == b"host"]
        if all(map(self._hosts.allows, named)):
            await self._app(scope, receive, send_secured)
        else:
            self._on_rejected()
            await _reject(send_secured)


def _completed(headers: Collection[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    there = {name.lower() for name, _ in headers}
    return [*headers, *((name, value) for name, value in _HEADERS.items() if name not in there)]


async def _send_slices(send: Send, message: Message) -> None:
    whole, more = memoryview(message["body"]), message.get("more_body", False)
    for start in range(0, len(whole), SLICE):
        end = start + SLICE
        await send({**message, "body": whole[start:end], "more_body": more or end < len(whole)})


_MISDIRECTED: Final = b'{"detail":"the Host header names a host that is not in serve.hosts"}'


async def _reject(send: Send) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(_MISDIRECTED)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 421, "headers": headers})
    await send({"type": "http.response.body", "body": _MISDIRECTED})
