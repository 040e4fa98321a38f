"""Shows a notebook as a page of the site: its text, its code, and the outputs that it holds."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["notebook_markdown"]


def notebook_markdown(path: Path) -> str:
    """Return the notebook as Markdown; an output is its HTML, if it has any, or else its text."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join(block for cell in cells for block in _blocks(cell)) + "\n"


def _blocks(cell: dict[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"```python\n{source}\n```"
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "text/html" in data:
            lines = "".join(data["text/html"]).splitlines()
            yield "<div>" + "\n".join(filter(str.strip, lines)) + "</div>"  # a blank line would end the HTML
        elif "text/plain" in data:
            yield f"```text\n{''.join(data['text/plain'])}\n```"
