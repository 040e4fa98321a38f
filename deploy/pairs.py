"""Options of the form NAME=VALUE, for command lines that need nothing but the standard library."""

import argparse

__all__ = ["pair"]


def pair(text: str) -> tuple[str, str]:
    """Return name and value; raises what argparse tells the user."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"not of the form NAME=VALUE: {text!r}")
    return name, value
