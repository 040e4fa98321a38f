"""Reads Plotly's script from the installed package without importing its Python code.

That import takes about a second of the interpreter, which would delay learning when the live page is opened.
"""

from importlib.metadata import distribution
from pathlib import Path
from typing import Final

from markupsafe import Markup

__all__ = ["plotly_script"]

PLACE: Final = "plotly/package_data/plotly.min.js"


def plotly_script() -> Markup:
    """Return Plotly's JavaScript, several megabytes."""
    script = Path(str(distribution("plotly").locate_file(PLACE))).read_text("utf-8")
    return Markup(script)  # noqa: S704 - from the installed package
