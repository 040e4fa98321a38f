"""The live page at ``/``: hand-written files, and Plotly's script from the installed package.

Nothing is fetched from anywhere else, and the browser is told to refuse it.
"""

import gzip
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request, Response

from service.report.script import plotly_script

__all__ = ["page_router"]

POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # Plotly styles what it draws
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
_SECURE: Final = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PARTS: Final = {
    "/plot.js": ("service.report", "plot.js", "text/javascript"),
    "/page.js": ("service.web", "page.js", "text/javascript"),
    "/page.css": ("service.web", "page.css", "text/css"),
    "/report.css": ("service.report", "style.css", "text/css"),  # the page looks like the report
    "/icon.svg": ("service.web", "icon.svg", "image/svg+xml"),
}


def page_router() -> APIRouter:
    """Return the routes of the page; they hold no number of the run, and need no token."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def page() -> Response:
        html = _text("service.web", "page.html").replace("PLOTLY", version("plotly"))
        return Response(html, media_type="text/html", headers=_SECURE | {"Cache-Control": "no-cache"})

    @router.get("/plotly.js")
    def plotly(request: Request) -> Response:
        # the page asks for the version that is installed, so that the answer stays true for ever
        headers = _SECURE | {
            "Cache-Control": "public, max-age=31536000, immutable",
            "Vary": "Accept-Encoding",
        }
        packed = _plotly()
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(
                packed, media_type="text/javascript", headers=headers | {"Content-Encoding": "gzip"}
            )
        return Response(gzip.decompress(packed), media_type="text/javascript", headers=headers)

    for path, (package, name, media_type) in _PARTS.items():
        router.add_api_route(path, _file(package, name, media_type))
    return router


def _file(package: str, name: str, media_type: str) -> Callable[[], Response]:
    def part() -> Response:
        return Response(
            _text(package, name), media_type=media_type, headers=_SECURE | {"Cache-Control": "no-cache"}
        )

    return part


@cache
def _text(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text("utf-8")


@cache
def _plotly() -> bytes:
    return gzip.compress(plotly_script().encode(), 6)
