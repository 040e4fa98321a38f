"""Escapes untrusted text for logs and terminals.

Names in records, files and brokers' answers are chosen by others. A line feed in one could forge a log line,
an escape sequence could control the terminal, and a bidirectional control could disguise the text.
"""

import logging
from typing import Final

from rich.markup import escape

__all__ = ["MAX_CHARACTERS", "LineFormatter", "escaped", "markup"]

MAX_CHARACTERS: Final = 4000
"""Maximum length of a line; the rest is counted."""
LINE: Final = "%(asctime)s %(levelname)s %(message)s"


def escaped(text: str) -> str:
    """Return ``text`` as one line of bounded length, with ``\\xNN`` or ``\\uNNNN`` for what is unprintable.

    Backslashes are not escaped, so the result cannot be parsed back.
    """
    more = len(text) - MAX_CHARACTERS
    if more > 0:
        text = text[:MAX_CHARACTERS]
    if not text.isprintable():
        text = "".join(char if char.isprintable() else _code(ord(char)) for char in text)
    return f"{text}… ({more} more characters)" if more > 0 else text


def _code(point: int) -> str:
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def markup(text: str) -> str:
    """Return ``text`` escaped, also for Rich's markup."""
    return escape(escaped(text))


class LineFormatter(logging.Formatter):
    """Formats a log record as one escaped line, followed by the escaped lines of its traceback."""

    def __init__(self) -> None:
        super().__init__(LINE)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """Return the line without the traceback."""
        return escaped(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802 - the library's name
        """Return the traceback."""
        lines = super().formatException(ei).split("\n")  # type: ignore[arg-type]
        return "\n".join(escaped(line) for line in lines)
