"""Formats numbers for display."""

from typing import Final

__all__ = ["UNDEFINED", "mebibytes", "number", "percent", "points", "seconds"]

UNDEFINED: Final = "–"
"""Shown for a score that is not defined."""

_THIN: Final = "\N{NARROW NO-BREAK SPACE}"
_MINUS: Final = "\N{MINUS SIGN}"


def percent(ratio: float | None) -> str:
    """Format a ratio: 0.977 as 97.7 %."""
    return UNDEFINED if ratio is None else f"{_signed(100 * ratio, '.1f')}{_THIN}%"


def points(ratio: float | None) -> str:
    """Format a difference of two accuracies in percentage points: −0.676 as −67.6."""
    return UNDEFINED if ratio is None else _signed(100 * ratio, "+.1f")


def number(value: float) -> str:
    """Format a number, rounded to an integer: 1234567 as 1 234 567."""
    return f"{value:,.0f}".replace(",", _THIN)


def seconds(value: float) -> str:
    """Format a duration: 4.2 s, 3 min 25 s, or 7.2 h."""
    if value < 120:
        return f"{value:.1f}{_THIN}s"
    if value >= 7200:
        return f"{value / 3600:.1f}{_THIN}h"
    minutes, rest = divmod(round(value), 60)
    return f"{number(minutes)}{_THIN}min {rest}{_THIN}s"


def mebibytes(count: int) -> str:
    """Format a number of bytes in MiB."""
    return f"{number(count / 2**20)}{_THIN}MiB"


def _signed(value: float, form: str) -> str:
    shown = format(value, form)
    if float(shown) == 0:  # −0.04 rounds to a zero, which has no sign
        shown = format(0.0, form.lstrip("+"))
    return shown.replace("-", _MINUS)
