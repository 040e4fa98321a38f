"""Reads untrusted JSON with a limit on its nesting."""

import json
from typing import Any, Final

__all__ = ["MAX_DEPTH", "read_json"]

MAX_DEPTH: Final = 64
"""Maximum nesting: far above any document of Lethe's and far below the interpreter's recursion limit."""


def read_json(text: str | bytes) -> Any:
    """Return the content of ``text``. Raises ValueError if it is not JSON or nested too deeply."""
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError(f"JSON is nested more than {MAX_DEPTH} deep") from None
    level = [content]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return content
    raise ValueError(f"JSON is nested more than {MAX_DEPTH} deep")
