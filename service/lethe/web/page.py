"""Serves the live page at ``/``, its assets, and Plotly's script from the installed package.

The content security policy blocks everything from elsewhere. Plotly's script, by far the longest response,
needs the token, which a script element cannot send: the page fetches it, and the policy allows its hash.
"""

import base64
import gzip
import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Final

from fastapi import APIRouter, Request, Response

from lethe.events import SCORES
from lethe.files.html.templates import read_asset, render
from lethe.report.plotly_script import plotly_script

__all__ = ["page_router", "script_router"]

SECURITY_POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self' 'sha256-{plotly}'",
        "style-src 'self' 'unsafe-inline'",  # Plotly styles what it draws
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
_FILES: Final = {
    "/base.css": ("files/html/base.css", "text/css"),
    "/report.css": ("report/style.css", "text/css"),
    "/page.css": ("web/page.css", "text/css"),
    "/plot.js": ("report/plot.js", "text/javascript"),
    "/page.js": ("web/page.js", "text/javascript"),
    "/icon.svg": ("web/icon.svg", "image/svg+xml"),
}


def page_router() -> APIRouter:
    """Return the routes of the page and its assets, which need no token: they show nothing of the run."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def page() -> Response:
        headers = {
            "Content-Security-Policy": SECURITY_POLICY.format(plotly=_plotly().sha256),
            "Cache-Control": "no-cache",
        }
        return Response(_page(), media_type="text/html", headers=headers)

    for path, (asset, media_type) in _FILES.items():
        router.add_api_route(path, _file(asset, media_type))
    return router


def script_router() -> APIRouter:
    """Return the route of Plotly's script; all responses share one body."""
    router = APIRouter(include_in_schema=False)

    @router.get("/plotly.js")
    def plotly(request: Request) -> Response:
        # the page names the installed version in the URL, so that the response never becomes outdated
        headers = {"Cache-Control": "private, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            body, headers["Content-Encoding"] = _plotly().packed, "gzip"
        else:
            body = _unpacked_plotly()
        return Response(body, media_type="text/javascript", headers=headers)

    return router


def _file(asset: str, media_type: str) -> Callable[[], Response]:
    def file() -> Response:
        return Response(_asset(asset), media_type=media_type, headers={"Cache-Control": "no-cache"})

    return file


@cache
def _asset(path: str) -> bytes:
    return read_asset(path).encode()


@cache
def _page() -> bytes:
    return render("web/page.html.jinja", plotly_version=version("plotly"), score=SCORES).encode()


@dataclass(frozen=True, slots=True)
class _Plotly:
    packed: bytes
    sha256: str
    """In Base64, as the policy quotes it."""


_once = threading.Lock()
"""Without it, concurrent first requests would each compress a body of their own."""


def _plotly() -> _Plotly:
    with _once:
        return _packed_plotly()


@cache
def _packed_plotly() -> _Plotly:
    script = plotly_script().encode()
    return _Plotly(gzip.compress(script, 6), base64.b64encode(hashlib.sha256(script).digest()).decode())


def _unpacked_plotly() -> bytes:
    packed = _plotly().packed
    with _once:
        return _unpacked(packed)


@cache
def _unpacked(packed: bytes) -> bytes:
    return gzip.decompress(packed)
