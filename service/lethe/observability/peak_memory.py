"""Peak memory of processes: the resident set size, of which shared pages count in each."""

import resource
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["peak_rss_bytes", "peak_rss_bytes_of"]


def peak_rss_bytes() -> int:
    """Return the peak resident set size of this process, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in kilobytes


def peak_rss_bytes_of(pids: Iterable[int]) -> int:
    """Return the sum of other processes' peaks, in bytes; 0 for one that has ended, or without /proc."""
    peak = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peak += int(line.split()[1]) * 1024
    return peak
