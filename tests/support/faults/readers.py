"""The processes that read and decode for a service, found from outside."""

from pathlib import Path

from lethe.ingest.reader_process import SPAWN, ProcessContext

__all__ = ["alive", "reading", "spawning", "state"]


def spawning(server: str) -> ProcessContext:
    """They are then children of the service, and can be found."""
    return SPAWN


def reading(pid: int) -> list[int]:
    """The decoders and the reader among a service's children, in the order of their start."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def state(pid: int) -> str | None:
    """The state letter of a process in /proc, as T for stopped or Z for a zombie; None if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return None


def alive(pid: int) -> bool:
    return state(pid) not in ("Z", None)
