"""Renders the HTML templates that are packaged with the service."""

from functools import cache
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["SELF_CONTAINED", "read_asset", "render"]

PACKAGE: Final = "lethe"
SELF_CONTAINED: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""Content security policy of a document without scripts: the browser fetches nothing for it."""


def render(template: str, **context: object) -> str:
    """Render ``template``, a path below the package such as ``report/report.html.jinja``.

    Every value is escaped unless it is `markupsafe.Markup`. Raises jinja2.UndefinedError when the template
    uses a name that is neither in ``context`` nor one of the environment's.
    """
    return _environment().get_template(template).render(context)


def read_asset(path: str) -> str:
    """Return the text of a packaged file, a path below the package such as ``report/style.css``."""
    return files(PACKAGE).joinpath(path).read_text("utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=PackageLoader(PACKAGE, ""),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Jinja sorts keys by default; the order of figures and probes has a meaning
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.globals["asset"] = _asset
    return environment


def _asset(path: str) -> Markup:
    """Return a packaged style sheet or script, to stand in the document as it is."""
    return Markup(read_asset(path))  # noqa: S704 - files of this package
