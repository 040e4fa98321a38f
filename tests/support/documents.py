"""README.md and the pages of the site, read as text and as fenced blocks."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["DOCUMENTS", "Block", "blocks", "commands_in", "inline_commands", "prose"]

ROOT: Final = Path(__file__).parents[2]
SUFFIXES: Final = {"python": "py", "yaml": "yaml"}
"""Of files that a block can be, by language."""
DOCUMENTS: Final = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs" / "pages").rglob("*.md")),
]


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text without indentation, and the number of its first line."""

    language: str
    text: str
    line: int
    title: str
    """The line before it."""

    @property
    def file(self) -> str:
        """The name of the file that it is, if the line before it says so; else empty."""
        named = re.search(rf"`(\w+\.{SUFFIXES.get(self.language, '-')})`", self.title)
        return named[1] if named else ""

    @property
    def commands(self) -> list[str]:
        """The commands of an ``sh`` block, each on one line, without comments."""
        found, pending = [], ""
        for line in self.text.splitlines() if self.language == "sh" else ():
            pending += re.sub(r"(^|\s+)#\s.*$", "", line)
            if not pending:
                continue
            try:
                shlex.split(pending)
            except ValueError:  # a quotation goes on in the next line
                pending += "\n"
            else:
                found.append(pending)
                pending = ""
        return found


def blocks(document: Path) -> Iterator[Block]:
    """Yield every fenced block of a document, in order."""
    text = document.read_text()
    for found in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE):
        body = re.sub(rf"^{found[1]}", "", found[3], flags=re.MULTILINE)
        above = text[: found.start()].splitlines()
        title = next((line for line in reversed(above) if line.strip()), "")
        yield Block(found[2], body, len(above) + 1, title)


def commands_in(document: Path) -> list[str]:
    """Return every command in the ``sh`` blocks of a document."""
    return [command for block in blocks(document) for command in block.commands]


def inline_commands(document: Path) -> list[str]:
    """Return every command of ours in the text of a document, such as ``lethe learners``."""
    spans = re.findall(r"`((?:[A-Z_]+=\S+ )?(?:lethe|lethe-replay|make|python -m) [^`]+)`", prose(document))
    return [" ".join(span.split()) for span in spans]


def prose(document: Path) -> str:
    """Return a document without its fenced blocks."""
    return re.sub(r"^( *)```.*?^\1```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
