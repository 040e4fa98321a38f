"""Runs a function as a command line."""

import sys
from collections.abc import Callable

import typer

from lethe.errors import LetheError

__all__ = ["run"]


def run(function: Callable[..., None], name: str) -> None:
    """Run ``function`` as the command ``name``: an error of Lethe is one line, with exit status 2."""
    try:
        typer.run(function)
    except LetheError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
