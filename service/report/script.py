"""Plotly's own script, from the installed package, whose Python half is never imported.

Importing that would keep the interpreter busy for a second, and so would delay learning when
somebody opens the live page.
"""

from importlib.metadata import distribution
from pathlib import Path
from typing import Final

__all__ = ["plotly_script"]

PLACE: Final = "plotly/package_data/plotly.min.js"


def plotly_script() -> str:
    """Return the JavaScript, some megabytes."""
    return Path(str(distribution("plotly").locate_file(PLACE))).read_text("utf-8")
