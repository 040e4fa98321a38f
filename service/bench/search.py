"""Looks for an image wherever it might have stayed: in the memory of processes, and in files."""

import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Needles", "feeders_of", "found_in_files", "found_in_memory"]

PIECE: Final = 32
"""Bytes of a needle: of noise, so many are nowhere by chance."""
CHUNK: Final = 1 << 24


@dataclass(frozen=True)
class Needles:
    """Pieces of an image's bytes, as they are and as they travel in a PNG file."""

    pieces: tuple[bytes, ...]

    @classmethod
    def of(cls, *contents: bytes) -> "Needles":
        """Return a piece of each of ``contents``, from its middle."""
        return cls(tuple(content[len(content) // 2 :][:PIECE] for content in contents))

    def within(self, data: bytes) -> bool:
        """Tell whether any piece is in ``data``."""
        return any(piece in data for piece in self.pieces)


def feeders_of(pid: int) -> list[int]:
    """Return the feeders that the service ``pid`` has started and that still run."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"resource_tracker" not in _command(child)]


def _command(pid: str) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def found_in_memory(pid: int, needles: Needles) -> bool:
    """Search everything that process ``pid`` can write to, its own and what it shares.

    Returns False when the process is gone. Raises PermissionError for a process of somebody else.
    """
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123 - no such Path.open
            return any(needles.within(part) for part in _parts(memory.fileno(), _writable(pid)))
    except (FileNotFoundError, ProcessLookupError):
        return False


def _writable(pid: int) -> list[tuple[int, int]]:
    areas = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        place, rights, *_ = line.split()
        if rights.startswith("rw"):
            begin, end = (int(part, 16) for part in place.split("-"))
            areas.append((begin, end))
    return areas


def _parts(descriptor: int, areas: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    for begin, end in areas:
        at = begin
        while at < end:
            part = b""
            with suppress(OSError):  # it has been unmapped meanwhile, or is a device
                part = os.pread(descriptor, min(CHUNK, end - at), at)
            if not part:
                break
            yield part
            at += max(1, len(part) - PIECE) if at + len(part) < end else len(part)


def found_in_files(folder: Path, needles: Needles) -> list[Path]:
    """Return the files under ``folder`` that hold a piece, as they are or deflated."""
    hits = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with suppress(FileNotFoundError):  # deleted meanwhile: it is gone
            content = path.read_bytes()
            if needles.within(content) or needles.within(_inflated(content)):
                hits.append(path)
    return hits


def _inflated(content: bytes) -> bytes:
    """Return what a file that is one deflated stream holds; nothing for any other."""
    try:
        return zlib.decompress(content, wbits=zlib.MAX_WBITS | 32)
    except zlib.error:
        return b""
