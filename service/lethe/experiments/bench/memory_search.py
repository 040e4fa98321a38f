"""Searches the memory of processes and files for the bytes of images."""

import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lethe.errors import InvalidSetting

__all__ = ["Needles", "find_in_files", "find_in_memory", "reader_processes"]

PIECE: Final = 32
"""Bytes of a needle: noise of this length does not occur by chance."""
CHUNK: Final = 1 << 24


@dataclass(frozen=True)
class Needles:
    """Byte sequences of images to search for, one per encoding, by name."""

    pieces: Mapping[str, bytes]

    @classmethod
    def of(cls, **contents: bytes) -> "Needles":
        """Return a piece from the middle of each of ``contents``."""
        return cls(
            {name: content[len(content) // 2 // 8 * 8 :][:PIECE] for name, content in contents.items()}
        )

    def within(self, data: bytes) -> set[str]:
        """Return the names of the pieces that occur in ``data``."""
        return {name for name, piece in self.pieces.items() if piece in data}


def reader_processes(pid: int) -> list[int]:
    """Return the ids of the running reader processes of the service ``pid``."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"resource_tracker" not in _command(child)]


def _command(pid: str) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def find_in_memory(pid: int, needles: Needles) -> set[str]:
    """Search all writable memory of process ``pid``, private and shared.

    Returns the names of the pieces found; the set is empty if the process has ended. Raises InvalidSetting
    if this user cannot read the process: under a policy, a service's memory is readable by root only.
    """
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123 - no such Path.open
            parts = _parts(memory.fileno(), _writable(pid))
            return set[str]().union(*(needles.within(part) for part in parts))
    except (FileNotFoundError, ProcessLookupError):
        return set()
    except PermissionError as error:
        raise InvalidSetting(
            f"the memory of process {pid} can be read by root only, because of its policy: run this as root, "
            "or as root of a user namespace (unshare --user --map-root-user lethe bench canary …)"
        ) from error


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
            with suppress(OSError):  # unmapped meanwhile, or a device
                part = os.pread(descriptor, min(CHUNK, end - at), at)
            if not part:
                break
            yield part
            at += max(1, len(part) - PIECE) if at + len(part) < end else len(part)


def find_in_files(folder: Path, needles: Needles) -> list[Path]:
    """Return the files under ``folder`` that contain a piece, uncompressed or deflated."""
    hits = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with suppress(FileNotFoundError):  # deleted meanwhile
            content = path.read_bytes()
            if needles.within(content) or needles.within(_inflated(content)):
                hits.append(path)
    return hits


def _inflated(content: bytes) -> bytes:
    """Return the decompressed contents of a zlib or gzip stream; empty for anything else."""
    try:
        return zlib.decompress(content, wbits=zlib.MAX_WBITS | 32)
    except zlib.error:
        return b""
